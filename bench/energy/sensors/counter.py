"""A source that reads an energy counter, whatever the hardware."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from greenprune.bench.energy.reading import Kind, SourceReading
from greenprune.bench.energy.sensors.power import PowerRegister
from greenprune.bench.energy.source import Counter, Mark, Segment, edge_error_s, invalid

SHORT_PERIODS = 50  # a window of fewer counter periods is flagged: its error is about one period in that many


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
            beside: integrated power of the same thing, for windows in which the counter was reset.
            warnings: of every reading.

        Raises:
            SensorError: the counter cannot be read; or what `read_j` raises.
        """
        self.name = name
        self.poll_interval_s = poll_interval_s
        self._period_s = period_s
        self._limit_w = limit_w or 0.0
        self._detail = detail
        self._note = note
        self._resolution_j = resolution_j
        self._beside = beside
        self._warnings = tuple(warnings)
        self._close = close
        self._counter = Counter(read_j, max_power_w=max_power_w, stale_s=period_s, wrap_j=wrap_j)
        self._counter.mark()

    def poll(self) -> None:
        """Follow the counter over its wraparounds and resets. Raises what reading raises."""
        self._counter.mark()
        if self._beside is not None:
            self._beside.try_sample()

    def mark(self) -> Mark:
        """Raises what reading raises."""
        mark = self._counter.mark()
        if self._beside is not None:
            self._beside.try_sample()
        return mark

    def reading(self, segments: Sequence[Segment]) -> tuple[SourceReading, list[str]]:
        """Bounds: one update period's energy at each edge."""
        energy_j = sum(s.energy_j for s in segments)
        duration_s = sum(s.duration_s for s in segments)
        warnings = [f"{self.name}: {text}" for text in self._warnings]
        if energy_j == 0:
            reason = f"the energy counter stood still for {duration_s * 1e3:.1f} ms"
            return invalid(self.name, self.kind, reason), warnings
        over_s, under_s = edge_error_s(segments)
        power_w = max(energy_j / duration_s, self._limit_w)
        reading = SourceReading(
            name=self.name,
            kind=self.kind,
            energy_j=energy_j,
            low_j=max(0.0, energy_j - over_s * power_w),
            high_j=energy_j + under_s * power_w,
            note=self._note,
        )
        periods = duration_s / (self._period_s * len(segments))
        if periods < SHORT_PERIODS:
            short = f"{duration_s * 1e3:.1f} ms is only {periods:.0f} periods of the energy counter"
            warnings.append(f"{self.name}: {short}")
        return reading, warnings

    def rescued(self, segments: Sequence[Segment], reason: str) -> tuple[SourceReading, list[str]] | None:
        """After a reset: integrated power, and so marked, where there is power beside the counter."""
        if self._beside is None:
            return None
        bounds_j = self._beside.energy_j(segments)
        if bounds_j is None:
            return None
        low_j, energy_j, high_j = bounds_j
        return SourceReading(
            name=self.name,
            kind="sampled",
            energy_j=energy_j,
            low_j=low_j,
            high_j=high_j,
            note=f"integrated power; {reason}; {self._note}",
        ), [f"{self.name}: {reason}; its joules in this window are integrated power"]

    def last_sample(self) -> None:
        """None: the power log takes the counter's own steps."""
        return

    def expected_uncertainty(self, window_s: float) -> float | None:
        """One update of the counter in `window_s`."""
        return min(1.0, self._period_s / window_s)

    def describe(self) -> dict[str, Any]:
        return {
            "source": self.name,
            "kind": self.kind,
            "available": True,
            "found": True,
            "detail": self._detail,
            "reason": None,
            "remedy": None,
            "period_s": self._period_s,
            "resolution_j": self._resolution_j,
        }

    def restart(self) -> None:
        """Nothing: a file needs no connection."""

    def close(self) -> None:
        """Let go of what was opened for it."""
        self._close()
