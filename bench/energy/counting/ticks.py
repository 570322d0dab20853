"""When a counter is updated, from nothing but looks at it: its period is found once and may change later."""

from __future__ import annotations

import itertools
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SLOWER = 1.25  # by how much longer than a period a counter must stand still before its period is doubted
JITTER_S = 0.005
REMEMBERED = 16  # updates from which the period is found anew
CRISP = 0.5  # of an update's distance, by which it may be uncertain to be believed in
SETTLED_AFTER = 4  # updates after a change of the period until which it is made finer with each
FASTER_AFTER = 8  # updates in a row that are all closer than the period before a shorter one is believed
BLIND_S = 5.0  # without a look for longer, nothing is known of the time between


@dataclass
class TickNotes:
    """What was seen of the updates in a stretch of time."""

    still_s: float = 0.0  # the longest time for which the counter certainly stood still beyond its period
    interval_s: float = 0.0  # the longest time between two updates, where that was beyond the period; an upper bound

    def merge(self, other: TickNotes) -> TickNotes:
        """Of both stretches."""
        return TickNotes(max(self.still_s, other.still_s), max(self.interval_s, other.interval_s))


@dataclass(frozen=True)
class Interval:
    """Between two updates, each of which fell between two looks."""

    least_s: float
    most_s: float
    seen_s: float  # when the later update was seen
    gap_s: float  # the longest time between two looks in it


class TickWatch:
    """Follows the period of a counter. Times are of `time.perf_counter`."""

    def __init__(self, period_s: float) -> None:
        """`period_s`: as it was found by watching closely."""
        self.period_s = period_s
        self._settling = 0  # updates for which a new period is still made finer
        self._value: float | None = None
        self._before_s: float | None = None  # the last look at the value before
        self._seen_s = 0.0  # the first look at this value
        self._last_s = 0.0  # the last look at it
        self._gap_s = 0.0  # the longest time between two looks since then
        self._recent: deque[Interval] = deque(maxlen=REMEMBERED)

    def look(self, time_s: float, value: float, notes: TickNotes) -> None:
        """The counter showed `value`."""
        if self._value is None or time_s - self._last_s > BLIND_S:
            moved = value != self._value
            self._recent.clear()
            if self._value is None or moved:
                self._before_s = None
                self._seen_s = time_s
                self._gap_s = 0.0
            self._value, self._last_s = value, time_s
            return
        self._gap_s = max(self._gap_s, time_s - self._last_s)
        if value == self._value:
            self._last_s = time_s
            self._note_still(time_s - self._seen_s, notes)
            return
        least_s = self._last_s - self._seen_s
        if self._before_s is not None:
            most_s = time_s - self._before_s
            if self._doubtful(least_s):
                notes.interval_s = max(notes.interval_s, most_s)
            self._recent.append(Interval(least_s, most_s, time_s, self._gap_s))
            self._find_period(notes)
        self._value, self._before_s, self._seen_s, self._last_s = value, self._last_s, time_s, time_s
        self._gap_s = time_s - self._before_s

    def stale_s(self, now_s: float) -> float:
        """How old the counter may be just after a look at `now_s`: its period, or longer where it has been still."""
        if self._doubtful(now_s - self._seen_s):
            return max(self.period_s, self.known_s(now_s))
        return self.period_s

    def known_s(self, now_s: float) -> float:
        """How old it is at most, whatever its period; infinite where nobody had looked before."""
        return float("inf") if self._before_s is None else now_s - self._before_s

    def _doubtful(self, still_s: float) -> bool:
        return still_s > SLOWER * self.period_s + JITTER_S

    def _note_still(self, still_s: float, notes: TickNotes) -> None:
        if self._doubtful(still_s):
            notes.still_s = max(notes.still_s, still_s)

    def _find_period(self, notes: TickNotes) -> None:
        recent = self._recent
        if self._doubtful(recent[-1].least_s):
            self._settling = SETTLED_AFTER
        if self._settling:
            self._settling -= 1
            slow = list(itertools.islice(reversed(recent), SETTLED_AFTER - self._settling))
            self.period_s = _agreed(slow, at_least_s=self.period_s if self._doubtful(recent[-1].least_s) else 0.0)
            return
        if len(recent) == REMEMBERED and all(i.gap_s <= 1.1 * self.period_s for i in recent):
            # Looks are close enough to see every update, so that their number tells the period finer than each does.
            mean_s = (recent[-1].seen_s - recent[0].seen_s) / (len(recent) - 1)
            if mean_s > 1.2 * self.period_s:
                self.period_s = 1.1 * mean_s
                notes.interval_s = max(notes.interval_s, self.period_s)
                return
        last = list(itertools.islice(reversed(recent), FASTER_AFTER))
        longest_s = max(i.most_s for i in last)
        if len(last) == FASTER_AFTER and longest_s < 0.8 * self.period_s:
            self.period_s = longest_s


def _agreed(intervals: Sequence[Interval], at_least_s: float) -> float:
    """A period that all of the intervals agree with; of updates that are irregular, the longest that there may be."""
    crisp = [i for i in intervals if i.most_s - i.least_s <= CRISP * i.most_s] or list(intervals)
    least_s, most_s = max(i.least_s for i in crisp), min(i.most_s for i in crisp)
    return max(most_s if least_s <= most_s else max(i.most_s for i in crisp), at_least_s)


def probe_period_s(
    read: Callable[[], float], *, ticks: int = 4, limit_s: float = 1.5, slow_limit_s: float = 4.0
) -> float | None:
    """Median time between two changes of a counter; None when it does not change in `limit_s`, or only once in
    `slow_limit_s`.

    Takes `ticks` + 1 periods, or `limit_s` as soon as it has changed twice. Raises whatever `read` raises.
    """
    begin_s = time.perf_counter()
    last = read()
    changed_s: list[float] = []
    while len(changed_s) <= ticks:
        # One change says that it moves, slowly: wait for the next.
        if time.perf_counter() - begin_s >= (slow_limit_s if len(changed_s) == 1 else limit_s):
            break
        time.sleep(0.0005)
        current, now_s = read(), time.perf_counter()
        if current != last:
            changed_s.append(now_s)
            last = current
    steps_s = [b - a for a, b in itertools.pairwise(changed_s)]
    return statistics.median(steps_s) if steps_s else None
