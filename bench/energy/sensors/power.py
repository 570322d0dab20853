"""A source that has power alone, sampled and integrated, whatever the hardware."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from greenprune.bench.energy.counting.history import Cut, History
from greenprune.bench.energy.counting.trace import PowerIntegral
from greenprune.bench.energy.reading import Kind, SourceReading
from greenprune.bench.energy.source import Mark, Segment, edge_error_s, invalid

MAX_UNCOVERED = 0.05  # fraction of a window without power samples above which its energy is invalid
SHORT_LAGS = 50  # a window of fewer lags of the register is flagged


@dataclass(frozen=True)
class PowerMark(Mark):
    """A mark of integrated power."""

    cut: Cut | None = None
    uncovered_s: float = 0.0  # seconds without samples until then
    held_w: float = 0.0  # the highest power shortly before


@dataclass(frozen=True)
class PowerNotes:
    """What was sampled between two marks, or in several stretches."""

    energy_j: float
    uncovered_s: float
    peak_w: float

    def __add__(self, other: PowerNotes) -> PowerNotes:
        return PowerNotes(
            self.energy_j + other.energy_j,
            self.uncovered_s + other.uncovered_s,
            max(self.peak_w, other.peak_w),
        )


@dataclass
class _Peak:
    power_w: float = 0.0

    def merge(self, other: _Peak) -> _Peak:
        return _Peak(max(self.power_w, other.power_w))


class PowerRegister:
    """Samples of a power register, integrated by a zero-order hold."""

    def __init__(self, read_w: Callable[[], float], *, lag_s: float, interval_s: float) -> None:
        """`lag_s`: by how much the register may lag behind, its averaging or update period. `interval_s`: of samples."""
        self._read_w = read_w
        self.lag_s = lag_s + interval_s
        self._integral = PowerIntegral(max(1.0, lag_s + 3 * interval_s))
        self._history = History(_Peak, _Peak.merge)

    def sample(self) -> float:
        """Read the register; the time of time.perf_counter() at which it was. Raises what reading raises."""
        power_w = self._read_w()
        now_s = time.perf_counter()
        self._integral.add(now_s, power_w)
        noted = self._history.current
        noted.power_w = max(noted.power_w, power_w)
        return now_s

    def holds(self, now_s: float) -> bool:
        """Whether the last sample still says something."""
        return self._integral.holds(now_s)

    def mark(self, now_s: float) -> PowerMark:
        """The integral until now, not before the last sample; staler by as much as that is older than now."""
        total_j, uncovered_s = self._integral.until(now_s)
        held_w, stale_s = 0.0, self.lag_s
        if self._integral:
            held_w = self._integral.recent_w
            stale_s += now_s - self._integral.last[0]
        return PowerMark(now_s, total_j, stale_s, cut=self._history.cut(), uncovered_s=uncovered_s, held_w=held_w)

    def tally(self, start: PowerMark, end: PowerMark) -> PowerNotes | None:
        """What was sampled between two marks."""
        if start.cut is None or end.cut is None:
            return None
        peak_w = max(self._history.between(start.cut, end.cut).power_w, start.held_w)
        return PowerNotes(end.total_j - start.total_j, end.uncovered_s - start.uncovered_s, peak_w)

    def last(self) -> tuple[float, float] | None:
        """Time and power of the last sample."""
        return self._integral.last if self._integral else None


class PowerSource:
    """A register of power, integrated."""

    kind: Kind = "sampled"

    def __init__(
        self,
        name: str,
        read_w: Callable[[], float],
        *,
        lag_s: float,
        detail: str,
        note: str,
        poll_interval_s: float = 0.1,
        why: str | None = None,
        resolution_w: float | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        """Samples once.

        Args:
            lag_s: averaging time or update period of the register.
            detail, note: what it is, for `describe` and for every reading.
            poll_interval_s: between two samples while a window is open.
            why: why power and no counter, where there might be one.
            resolution_w: the smallest step of the register.
            warnings: of every reading.

        Raises:
            SensorError: the power cannot be read; or what `read_w` raises.
        """
        self.name = name
        self.poll_interval_s = poll_interval_s
        self._lag_s = lag_s
        self._detail = detail
        self._note = note
        self._why = why
        self._resolution_w = resolution_w
        self._warnings = tuple(warnings)
        self._register = PowerRegister(read_w, lag_s=lag_s, interval_s=poll_interval_s)
        self._register.sample()

    def poll(self) -> None:
        """Sample. Raises what reading raises."""
        self._register.sample()

    def mark(self) -> Mark:
        """Sample, and the integral until now. Raises what reading raises, once the last sample is too old to hold."""
        try:
            now_s = self._register.sample()
        except Exception:
            now_s = time.perf_counter()
            if not self._register.holds(now_s):
                raise
        return self._register.mark(now_s)

    def tally(self, start: Mark, end: Mark) -> PowerNotes | None:
        """What was sampled between two marks of this source; None where one of them failed."""
        if not isinstance(start, PowerMark) or not isinstance(end, PowerMark):
            return None
        return self._register.tally(start, end)

    def reading(self, segments: Sequence[Segment]) -> tuple[SourceReading, list[str]]:
        """Bounds: at each edge the energy of the time by which the register lags, and of gaps."""
        energy_j = sum(s.energy_j for s in segments)
        duration_s = sum(s.duration_s for s in segments)
        warnings = [f"{self.name}: {text}" for text in self._warnings]
        noted = noted_in(segments)
        if noted.uncovered_s > MAX_UNCOVERED * duration_s:
            reason = f"no power samples for {noted.uncovered_s:.1f} of {duration_s:.1f} s"
            return invalid(self.name, self.kind, reason), warnings
        over_s, under_s = edge_error_s(segments)
        enough_s = SHORT_LAGS * self._register.lag_s
        if duration_s < enough_s:
            warnings.append(f"{self.name}: {duration_s:.2f} s is short for sampled power; {enough_s:.0f} s are enough")
        reading = SourceReading(
            name=self.name,
            kind=self.kind,
            energy_j=energy_j,
            low_j=max(0.0, energy_j - (over_s + noted.uncovered_s) * noted.peak_w),
            high_j=energy_j + (under_s + noted.uncovered_s) * noted.peak_w,
            note=self._note,
        )
        return reading, warnings

    def rescued(self, segments: Sequence[Segment], reason: str) -> None:
        return None

    def last_sample(self) -> tuple[float, float] | None:
        return self._register.last()

    def expected_uncertainty(self, window_s: float) -> float | None:
        """The lag of the register in `window_s`."""
        return min(1.0, self._register.lag_s / window_s)

    def describe(self) -> dict[str, Any]:
        return {
            "source": self.name,
            "kind": self.kind,
            "available": True,
            "found": True,
            "detail": self._detail,
            "reason": self._why,
            "remedy": None,
            "period_s": self._lag_s,
            "resolution_w": self._resolution_w,
        }

    def restart(self) -> None:
        """Nothing: a file needs no connection."""

    def close(self) -> None:
        """Nothing: no file is kept open."""


def noted_in(segments: Sequence[Segment]) -> PowerNotes:
    """What was sampled in all segments; in one without notes nobody looked."""
    total = PowerNotes(0.0, 0.0, 0.0)
    for segment in segments:
        noted = segment.tally
        total += noted if isinstance(noted, PowerNotes) else PowerNotes(0.0, segment.duration_s, 0.0)
    return total
