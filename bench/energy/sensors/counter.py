"""A source that reads an energy counter, whatever the hardware."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from greenprune.bench.energy.counting.history import Cut, History
from greenprune.bench.energy.counting.ticks import TickNotes, TickWatch
from greenprune.bench.energy.counting.totals import Counter
from greenprune.bench.energy.reading import Kind, SourceReading
from greenprune.bench.energy.sensors.power import MAX_UNCOVERED, PowerMark, PowerNotes, PowerRegister
from greenprune.bench.energy.source import Mark, Segment, edge_error_s, invalid

SHORT_PERIODS = 50  # a window of fewer counter periods is flagged: its error is about one period in that many
WATCH_FROM_S = 0.01  # the period of a counter that is updated more often than that is not watched
LONGEST_PERIOD_S = 2.0  # a counter that stood still for longer has rested with what it counts: a GPU that sleeps


@dataclass(frozen=True)
class CounterMark(Mark):
    """A mark of a counter with what else ran on until then."""

    cut: Cut | None = None
    known_s: float = LONGEST_PERIOD_S  # how old the total is at most, whatever the counter's period
    power: PowerMark | None = None


@dataclass(frozen=True)
class CounterNotes:
    """What was noted between two marks, or in several stretches."""

    late_over_s: float  # by how much the total at the start may be older than its mark says
    late_under_s: float  # the same at the end
    power: PowerNotes | None

    def __add__(self, other: CounterNotes) -> CounterNotes:
        return CounterNotes(
            self.late_over_s + other.late_over_s,
            self.late_under_s + other.late_under_s,
            None if self.power is None or other.power is None else self.power + other.power,
        )


class CounterSource:
    """A total in joules that the hardware keeps, followed by `Counter`; power beside it, where there is any, for resets."""

    kind: Kind = "measured"

    def __init__(
        self,
        name: str,
        read_j: Callable[[], float],
        *,
        period_s: float,
        max_power_w: float,
        detail: str,
        note: str,
        resolution_j: float | None = None,
        limit_w: float | None = None,
        wrap_j: float | None = None,
        plausible_w: float | None = None,
        poll_interval_s: float = 1.0,
        beside: PowerRegister | None = None,
        warnings: Sequence[str] = (),
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """Reads the counter once.

        Args:
            period_s: the counter's update period.
            max_power_w: more can only be a counter that was reset.
            detail, note: what it is, for `describe` and for every reading.
            resolution_j: the smallest step of the counter.
            limit_w: the power that the edges of a window may have had, where the hardware limits it; else the mean.
            wrap_j: the value after which the counter starts at 0 again.
            plausible_w: as of `Counter`.
            beside: integrated power of the same thing, for windows in which the counter was reset.
            warnings: of every reading.

        Raises:
            SensorError: the counter cannot be read; or what `read_j` raises.
        """
        self.name = name
        self.poll_interval_s = poll_interval_s
        self._limit_w = limit_w or 0.0
        self._detail = detail
        self._note = note
        self._resolution_j = resolution_j
        self._beside = beside
        self._warnings = tuple(warnings)
        self._close = close
        self._read_j = read_j
        self._watch = TickWatch(period_s)
        self._watched = period_s >= WATCH_FROM_S
        self._history = History(TickNotes, TickNotes.merge)
        self._counter = Counter(
            self._look, max_power_w=max_power_w, stale_s=period_s, wrap_j=wrap_j, plausible_w=plausible_w
        )
        self._counter.mark()

    def poll(self) -> None:
        """Follow the counter over its wraparounds and resets. Raises what reading raises."""
        self._counter.mark()
        self._sample()

    def mark(self) -> Mark:
        """Raises what reading raises."""
        mark = self._counter.mark()
        now_s = self._sample()
        stale_s = known_s = self._watch.period_s
        if self._watched:
            stale_s, known_s = self._watch.stale_s(mark.time_s), self._watch.known_s(mark.time_s)
        return CounterMark(
            mark.time_s,
            mark.total_j,
            min(stale_s, max(LONGEST_PERIOD_S, self._watch.period_s)),
            mark.resets,
            mark.reason,
            mark.unseen_j,
            tick_s=self._watch.period_s,
            cut=self._history.cut(),
            known_s=min(known_s, LONGEST_PERIOD_S),
            power=None if self._beside is None else self._beside.mark(max(now_s, mark.time_s)),
        )

    def tally(self, start: Mark, end: Mark) -> CounterNotes | None:
        """What was noted between two marks of this source; None where one of them failed."""
        if not isinstance(start, CounterMark) or not isinstance(end, CounterMark):
            return None
        late_over_s = late_under_s = 0.0
        if start.cut is not None and end.cut is not None:
            ticks = self._history.between(start.cut, end.cut)
            if ticks.still_s or ticks.interval_s:
                apart_s = ticks.interval_s or LONGEST_PERIOD_S
                late_over_s = max(0.0, min(start.known_s, apart_s) - start.stale_s)
                late_under_s = max(0.0, end.known_s - end.stale_s)
        power = None
        if self._beside is not None and start.power is not None and end.power is not None:
            power = self._beside.tally(start.power, end.power)
        return CounterNotes(late_over_s, late_under_s, power)

    def reading(self, segments: Sequence[Segment]) -> tuple[SourceReading, list[str]]:
        """Bounds: one update period's energy at each edge."""
        energy_j = sum(s.energy_j for s in segments)
        duration_s = sum(s.duration_s for s in segments)
        warnings = [f"{self.name}: {text}" for text in self._warnings]
        if energy_j == 0:
            reason = f"the energy counter stood still for {duration_s * 1e3:.1f} ms"
            return invalid(self.name, self.kind, reason), warnings
        unseen_j = sum(s.unseen_j for s in segments)
        gap = f"nobody looked for so long that the energy counter may have gone round unseen, by up to {unseen_j:.0f} J"
        if unseen_j > energy_j:
            return invalid(self.name, self.kind, f"{gap}; {energy_j:.1f} J were seen"), warnings
        if unseen_j:
            warnings.append(f"{self.name}: {gap}")
        over_s, under_s = edge_error_s(segments)
        noted = [s.tally for s in segments if isinstance(s.tally, CounterNotes)]
        over_s += sum(n.late_over_s for n in noted)
        under_s += sum(n.late_under_s for n in noted)
        # Without a limit: all of the energy may have been used while the counter did not stand still.
        known_s = max(duration_s - max(over_s, under_s), duration_s / SHORT_PERIODS)
        power_w = max(energy_j / duration_s, self._limit_w) if self._limit_w else energy_j / known_s
        reading = SourceReading(
            name=self.name,
            kind=self.kind,
            energy_j=energy_j,
            low_j=max(0.0, energy_j - over_s * power_w),
            high_j=energy_j + under_s * power_w + unseen_j,
            note=self._note,
        )
        periods = duration_s / (self._watch.period_s * sum(s.parts for s in segments))
        if periods < SHORT_PERIODS:
            short = f"{duration_s * 1e3:.1f} ms is only {periods:.0f} periods of the energy counter"
            warnings.append(f"{self.name}: {short}")
        return reading, warnings

    def rescued(self, segments: Sequence[Segment], reason: str) -> tuple[SourceReading, list[str]] | None:
        """After a reset: integrated power, and so marked, where there is power beside the counter."""
        if self._beside is None or not segments:
            return None
        duration_s, energy_j, error_j, uncovered_s = 0.0, 0.0, 0.0, 0.0
        for segment in segments:
            noted = segment.tally.power if isinstance(segment.tally, CounterNotes) else None
            if noted is None:
                return None
            duration_s += segment.duration_s
            energy_j += noted.energy_j
            uncovered_s += noted.uncovered_s
            error_j += segment.parts * self._beside.lag_s * noted.peak_w
        if uncovered_s > MAX_UNCOVERED * duration_s:
            return None
        return SourceReading(
            name=self.name,
            kind="sampled",
            energy_j=energy_j,
            low_j=max(0.0, energy_j - error_j),
            high_j=energy_j + error_j,
            note=f"integrated power; {reason}; {self._note}",
        ), [f"{self.name}: {reason}; its joules in this window are integrated power"]

    def last_sample(self) -> None:
        """None: the power log takes the counter's own steps."""
        return

    def expected_uncertainty(self, window_s: float) -> float | None:
        """One update of the counter in `window_s`."""
        return min(1.0, self._watch.period_s / window_s)

    def describe(self) -> dict[str, Any]:
        return {
            "source": self.name,
            "kind": self.kind,
            "available": True,
            "found": True,
            "detail": self._detail,
            "reason": None,
            "remedy": None,
            "period_s": self._watch.period_s,
            "resolution_j": self._resolution_j,
        }

    def restart(self) -> None:
        """Nothing: a file needs no connection."""

    def close(self) -> None:
        """Let go of what was opened for it."""
        self._close()

    def _look(self) -> float:
        counter_j = self._read_j()
        if self._watched:
            self._watch.look(time.perf_counter(), counter_j, self._history.current)
        return counter_j

    def _sample(self) -> float:
        """The time of a sample of the power beside it; a failure leaves a gap, and gaps show in the notes."""
        with contextlib.suppress(Exception):
            if self._beside is not None:
                return self._beside.sample()
        return time.perf_counter()
