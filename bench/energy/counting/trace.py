"""Power over time: a zero-order hold over samples, and the thread that takes them."""

from __future__ import annotations

import bisect
import threading
import time
from array import array
from collections.abc import Callable

MAX_SAMPLES = 1536  # of a trace; above it old ones are joined
FINENESS = 64  # joined samples span at most a 64th of their age


class PowerIntegral:
    """Power integrated by a zero-order hold as `PowerTrace` does, without its samples: only what lies ahead can be asked."""

    def __init__(self, longest_hold_s: float) -> None:
        """`longest_hold_s`: a sample that is older says nothing."""
        self._hold_s = longest_hold_s
        self._steps: list[tuple[float, float, float, float]] = []  # the last two: time, W, J and s uncovered until then

    def __bool__(self) -> bool:
        return bool(self._steps)

    @property
    def last(self) -> tuple[float, float]:
        """Time and power of the last sample. Raises IndexError without one."""
        return self._steps[-1][:2]

    @property
    def recent_w(self) -> float:
        """The higher of the last two samples."""
        return max(step[1] for step in self._steps)

    def holds(self, time_s: float) -> bool:
        """Whether the last sample still says something at `time_s`."""
        return bool(self._steps) and time_s - self._steps[-1][0] <= self._hold_s

    def add(self, time_s: float, power_w: float) -> None:
        """A sample. One that is older than the last is dropped."""
        if not self._steps:
            self._steps.append((time_s, power_w, 0.0, 0.0))
        elif time_s >= self._steps[-1][0]:
            self._steps = [self._steps[-1], (time_s, power_w, *self.until(time_s))]

    def until(self, time_s: float) -> tuple[float, float]:
        """Energy in J since the first sample, and seconds that no sample covers. Not for times before the last but one."""
        if not self._steps:
            return 0.0, 0.0
        step = self._steps[0] if time_s < self._steps[-1][0] else self._steps[-1]
        passed_s = time_s - step[0]
        return step[2] + step[1] * passed_s, step[3] + max(0.0, passed_s - self._hold_s)


class PowerTrace:
    """Samples of power, integrated by a zero-order hold: each sample holds until the next one.

    Duplicates are kept: a sensor that repeats itself says that the power has not changed. Dropping repeats and joining
    the rest by straight lines, as some tools do, loses a constant load altogether and smears every step.
    Times are of `time.perf_counter`.

    The trace of a month takes no more room than that of an hour: old samples are joined. What was asked until the last
    sample stays exact; between two joined ones their mean power and their peak hold, for a 64th of their age at most.
    """

    def __init__(self) -> None:
        self.clear()

    def __len__(self) -> int:
        return len(self.times_s)

    def add(self, time_s: float, power_w: float) -> None:
        """Append a sample. One that is older than the last is dropped: the clock that times them never runs back."""
        if not self.times_s:
            self._integral_j.append(0.0)
        elif time_s < self.times_s[-1]:
            return
        else:
            self._integral_j.append(self._integral_j[-1] + self.power_w[-1] * (time_s - self.times_s[-1]))
            self._longest_s[-1] = time_s - self.times_s[-1]
        self.times_s.append(time_s)
        self.power_w.append(power_w)
        self._peak_w.append(power_w)
        self._longest_s.append(0.0)
        if len(self.times_s) >= MAX_SAMPLES:
            self._join_old()

    def energy_j(self, start_s: float, end_s: float) -> float:
        """Energy between two times. Before the first sample the first one holds, after the last one the last."""
        return self._until_j(end_s) - self._until_j(start_s)

    def peak_w(self, start_s: float, end_s: float) -> float:
        """Largest power that was held at any time between the two."""
        first = max(0, bisect.bisect_right(self.times_s, start_s) - 1)
        last = bisect.bisect_right(self.times_s, end_s)
        return max(self._peak_w[first : max(last, first + 1)], default=0.0)

    def uncovered_s(self, start_s: float, end_s: float, longest_hold_s: float) -> float:
        """How much of the stretch lies further than `longest_hold_s` behind the last sample before it."""
        first = max(0, bisect.bisect_right(self.times_s, start_s) - 1)
        last = bisect.bisect_right(self.times_s, end_s)
        uncovered_s = 0.0
        for i in range(first, last):
            until_s = self.times_s[i + 1] if i + 1 < last else end_s
            if i + 1 < last and self._longest_s[i] < self.times_s[i + 1] - self.times_s[i]:
                # Joined samples: the longest gap among them is what is known.
                uncovered_s += max(0.0, self._longest_s[i] - longest_hold_s)
                continue
            uncovered_s += max(0.0, until_s - max(start_s, self.times_s[i] + longest_hold_s))
        return uncovered_s

    def clear(self) -> None:
        """Forget all samples."""
        self.times_s, self.power_w, self._integral_j = array("d"), array("d"), array("d")
        self._peak_w = array("d")  # of the samples that were joined to one
        self._longest_s = array("d")  # the longest time for which one of them held

    def _until_j(self, time_s: float) -> float:
        if not self.times_s:
            raise ValueError("no power samples")
        i = max(0, bisect.bisect_right(self.times_s, time_s) - 1)
        return self._integral_j[i] + self.power_w[i] * (time_s - self.times_s[i])

    def _join_old(self) -> None:
        times_s, integral_j = self.times_s, self._integral_j
        now_s, last = times_s[-1], len(times_s) - 1
        kept = [0]  # the beginning of each group
        for i in range(1, last + 1):
            if i == last or times_s[i + 1] - times_s[kept[-1]] > (now_s - times_s[i + 1]) / FINENESS:
                kept.append(i)
        ends = [*kept[1:], last + 1]
        power_w = array("d", self.power_w)
        for i, end in zip(kept, ends, strict=True):
            if end - i > 1 and end <= last:
                power_w[i] = (integral_j[end] - integral_j[i]) / (times_s[end] - times_s[i])
        self._peak_w = array("d", (max(self._peak_w[i:end]) for i, end in zip(kept, ends, strict=True)))
        self._longest_s = array("d", (max(self._longest_s[i:end]) for i, end in zip(kept, ends, strict=True)))
        self.power_w = array("d", (power_w[i] for i in kept))
        self.times_s = array("d", (times_s[i] for i in kept))
        self._integral_j = array("d", (integral_j[i] for i in kept))


LONGEST_SLEEP_S = 3600.0


class Sampler:
    """A daemon thread that calls `poll` every `interval_s` while it is resumed. `poll` must not raise.

    It is kept between windows, because to start a thread costs more than a window does; paused it uses no CPU time.
    """

    def __init__(self, poll: Callable[[], None], interval_s: float) -> None:
        self._poll = poll
        self._interval_s = interval_s
        self._resumed = threading.Event()
        self._stopped = False
        threading.Thread(target=self._run, name="greenprune-energy", daemon=True).start()

    def resume(self) -> None:
        """Poll from one interval from now on."""
        self._resumed.set()

    def pause(self) -> None:
        """Stop polling after the current poll."""
        self._resumed.clear()

    def stop(self) -> None:
        """End the thread for good; does not wait for it."""
        self._stopped = True
        self._resumed.set()

    def _run(self) -> None:
        # sleep and not Event.wait with a limit: that costs more CPU time than some polls do.
        while self._resumed.wait() and not self._stopped:
            time.sleep(min(self._interval_s, LONGEST_SLEEP_S))  # no source that polls: an endless interval
            if self._resumed.is_set() and not self._stopped:
                self._poll()
