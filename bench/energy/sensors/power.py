"""A source that has power alone, sampled and integrated, whatever the hardware."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from greenprune.bench.energy.reading import Kind, SourceReading
from greenprune.bench.energy.source import Mark, Segment, edge_error_s, invalid
from greenprune.bench.energy.trace import PowerTrace

MAX_UNCOVERED = 0.05  # fraction of a window without power samples above which its energy is invalid


class PowerRegister:
    """Samples of a power register and their integral, a zero-order hold."""

    def __init__(self, read_w: Callable[[], float], *, lag_s: float, interval_s: float) -> None:
        """`lag_s`: by how much the register may lag behind, its averaging or update period. `interval_s`: of samples."""
        self._read_w = read_w
        self._trace = PowerTrace()
        self.lag_s = lag_s + interval_s
        self._longest_hold_s = max(1.0, lag_s + 3 * interval_s)  # a sample older than this says nothing about now

    def sample(self) -> float:
        """Read the register; the time of time.perf_counter() at which it was. Raises what reading raises."""
        power_w = self._read_w()
        now_s = time.perf_counter()
        self._trace.add(now_s, power_w)
        return now_s

    def try_sample(self) -> None:
        """As `sample`; a failure leaves a gap, and gaps show in `energy_j`."""
        with contextlib.suppress(Exception):
            self.sample()

    def total_j(self, until_s: float) -> float:
        """Energy since the first sample."""
        return self._trace.energy_j(self._trace.times_s[0], until_s)

    def last(self) -> tuple[float, float] | None:
        """Time and power of the last sample."""
        return (self._trace.times_s[-1], self._trace.power_w[-1]) if len(self._trace) else None

    def uncovered_s(self, segments: Sequence[Segment]) -> float:
        """For how long nobody looked."""
        return sum(self._trace.uncovered_s(s.start.time_s, s.end.time_s, self._longest_hold_s) for s in segments)

    def peak_w(self, segments: Sequence[Segment]) -> float:
        """Largest power in the segments."""
        return max((self._trace.peak_w(s.start.time_s, s.end.time_s) for s in segments), default=0.0)

    def energy_j(self, segments: Sequence[Segment]) -> tuple[float, float, float] | None:
        """Low bound, energy and high bound, by the times of the marks alone; None with gaps or without samples."""
        duration_s = sum(s.duration_s for s in segments)
        if not len(self._trace) or self.uncovered_s(segments) > MAX_UNCOVERED * duration_s:
            return None
        energy_j = sum(self._trace.energy_j(s.start.time_s, s.end.time_s) for s in segments)
        error_j = len(segments) * self.lag_s * self.peak_w(segments)
        return max(0.0, energy_j - error_j), energy_j, energy_j + error_j


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
        close: Callable[[], None] = lambda: None,
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
        self._close = close
        self._integral = PowerRegister(read_w, lag_s=lag_s, interval_s=poll_interval_s)
        self._integral.sample()

    def poll(self) -> None:
        """Sample. Raises what reading raises."""
        self._integral.sample()

    def mark(self) -> Mark:
        """Sample, and the integral until now. Raises what reading raises."""
        now_s = self._integral.sample()
        return Mark(now_s, self._integral.total_j(now_s), self._integral.lag_s)

    def reading(self, segments: Sequence[Segment]) -> tuple[SourceReading, list[str]]:
        """Bounds: at each edge the energy of the time by which the register lags, and of gaps."""
        energy_j = sum(s.energy_j for s in segments)
        duration_s = sum(s.duration_s for s in segments)
        warnings = [f"{self.name}: {text}" for text in self._warnings]
        uncovered_s = self._integral.uncovered_s(segments)
        if uncovered_s > MAX_UNCOVERED * duration_s:
            reason = f"no power samples for {uncovered_s:.1f} of {duration_s:.1f} s"
            return invalid(self.name, self.kind, reason), warnings
        over_s, under_s = edge_error_s(segments)
        peak_w = self._integral.peak_w(segments)
        short_s = 50 * self._integral.lag_s
        if duration_s < short_s:
            warnings.append(f"{self.name}: {duration_s:.2f} s is short for sampled power; {short_s:.0f} s are enough")
        reading = SourceReading(
            name=self.name,
            kind=self.kind,
            energy_j=energy_j,
            low_j=max(0.0, energy_j - (over_s + uncovered_s) * peak_w),
            high_j=energy_j + (under_s + uncovered_s) * peak_w,
            note=self._note,
        )
        return reading, warnings

    def rescued(self, segments: Sequence[Segment], reason: str) -> None:
        return None

    def last_sample(self) -> tuple[float, float] | None:
        return self._integral.last()

    def expected_uncertainty(self, window_s: float) -> float | None:
        """The lag of the register in `window_s`."""
        return min(1.0, self._integral.lag_s / window_s)

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
        """Let go of what was opened for it."""
        self._close()
