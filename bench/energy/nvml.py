"""Energy of NVIDIA GPUs: the card's own counter where it works, else its power, sampled and integrated.

Both count the whole card, whoever uses it. The sensor's systematic error (per card and constant, against an external
meter; Yang et al., "Part-time Power Measurements", SC 2024) is not in the bounds but apart, in `sensor_error_j`:
it cancels in a ratio of two readings of the same card, and repeating does not reduce it.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from typing import Any

from greenprune.bench.energy.nvml_library import Card, NvmlError, probe_period_s
from greenprune.bench.energy.nvml_state import CardObserver, warnings_of
from greenprune.bench.energy.reading import Kind, SourceReading
from greenprune.bench.energy.source import Counter, Mark, Segment, SensorError, edge_error_s
from greenprune.bench.energy.trace import PowerTrace

SHORT_PERIODS = 50  # a window of fewer counter periods is flagged: its error is about one period in that many
LONGEST_HOLD_S = 1.0  # a power sample older than this says nothing about now
MAX_UNCOVERED = 0.05  # fraction of a window without power samples above which its sampled energy is invalid
MAX_MISMATCH = 0.05  # fraction by which the counter and the integrated power may differ without a warning
NO_LIMIT_W = 1e3  # stands for the power limit of a card that does not tell it

_AMPERE = 7  # NVML_DEVICE_ARCH_AMPERE


def sensor_error_fraction(architecture: int | None) -> float:
    """Largest systematic error of a card's sensor that was found for its architecture (as NVML numbers them).

    Yang et al.: A100 -5.8 %, RTX 3090 -5.6 %, RTX 4090 -5.3 %, RTX 2060 Super +12.7 %. Unknown counts as old.
    """
    return 0.06 if architecture is not None and architecture >= _AMPERE else 0.13


class NvmlSource:
    """One card in the meter."""

    def __init__(self, card: Card, warnings: Sequence[str] = ()) -> None:
        """Probe the counter, its period and the power registers; takes about five counter periods.

        `warnings` go into every reading. Raises NvmlError when the card has neither a working counter nor power.
        """
        self._card = card
        self._warnings = tuple(warnings)
        self.name = f"nvml:{card.gpu.index}"
        self._trace = PowerTrace()
        self._limit_w = (card.optional("nvmlDeviceGetEnforcedPowerLimit") or NO_LIMIT_W * 1e3) / 1e3
        self._observer = CardObserver(card, self._limit_w if self._limit_w < NO_LIMIT_W else None)
        self._sensor_error = sensor_error_fraction(card.optional("nvmlDeviceGetArchitecture"))
        self._power_problem: str | None = None
        try:
            self._power_name, self._averaging_s = card.find_power_field()
        except NvmlError as e:
            self._power_problem = str(e)
        period_s: float | None = None
        try:
            period_s = probe_period_s(card.counter_j)
            self._why_no_counter = "the energy counter does not move"
        except NvmlError as e:
            self._why_no_counter = str(e)
            if self._power_problem:
                raise
        self.kind: Kind = "sampled" if period_s is None else "measured"
        if self.kind == "sampled" and self._power_problem:
            raise SensorError(f"{self._why_no_counter}; {self._power_problem}")
        self.period_s = period_s or 0.0
        # Short peaks exceed the limit; what this must tell apart is a jump of the counter: kilojoules in no time.
        self._counter = Counter(card.counter_j, max_power_w=10 * self._limit_w, stale_s=self.period_s)
        self.poll_interval_s = 0.1 if self.kind == "measured" else 0.05

    def poll(self) -> None:
        """Sample the power; follow the counter, so that a reset is noticed before the counter is past its old value."""
        if self.kind == "measured":
            self._counter.mark()
            with contextlib.suppress(NvmlError):
                self._sample()
        else:
            self._sample()
        self._observer.look()

    def mark(self) -> Mark:
        """Read the counter, or the integral of the power. Raises NvmlError."""
        if self.kind == "sampled":
            now_s = self._sample()
            return Mark(
                now_s, self._trace.energy_j(self._trace.times_s[0], now_s), self._averaging_s + self.poll_interval_s
            )
        mark = self._counter.mark()
        if not len(self._trace) or mark.time_s - self._trace.times_s[-1] > self.poll_interval_s / 4:
            with contextlib.suppress(NvmlError):
                self._sample()
        return mark

    def reading(self, segments: Sequence[Segment]) -> tuple[SourceReading, list[str]]:
        """Bounds: at each edge, the energy of one counter period, or of the time by which sampled power lags."""
        energy_j = sum(s.energy_j for s in segments)
        duration_s = sum(s.duration_s for s in segments)
        peak_w = max((self._trace.peak_w(s.start.time_s, s.end.time_s) for s in segments), default=0.0)
        over_s, under_s = edge_error_s(segments)
        card = self._observer.state([(s.start.time_s, s.end.time_s) for s in segments])
        warnings = warnings_of(card)
        if self.kind == "measured":
            reason = _unresolved(energy_j, duration_s, max(over_s, under_s))
            peak_w = max(peak_w, energy_j / duration_s if duration_s else 0.0)
            warnings += _short(duration_s, max(over_s, under_s), "the energy counter's period")
            warnings += self._mismatch(energy_j, (over_s + under_s) * peak_w, segments)
            note = f"{self._card.gpu.name}, energy counter, updated every {self.period_s * 1e3:.0f} ms"
        else:
            uncovered_s = sum(self._trace.uncovered_s(s.start.time_s, s.end.time_s, LONGEST_HOLD_S) for s in segments)
            reason = None
            if uncovered_s > MAX_UNCOVERED * duration_s:
                reason = f"no power samples for {uncovered_s:.1f} of {duration_s:.1f} s"
            warnings += _short(duration_s, max(over_s, under_s), "the lag of sampled power")
            over_s, under_s = over_s + uncovered_s, under_s + uncovered_s
            note = f"{self._card.gpu.name}, integrated power ({self._power_name}); {self._why_no_counter}"
        warnings = [f"{self.name}: {text}" for text in (*self._warnings, *warnings)]
        common: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "note": f"{note}; {self._card.gpu.uuid}",
            "card": card,
        }
        if reason:
            return SourceReading(energy_j=None, valid=False, reason=reason, **common), warnings
        low_j, high_j = max(0.0, energy_j - over_s * peak_w), energy_j + under_s * peak_w
        common["sensor_error_j"] = self._sensor_error * energy_j
        return SourceReading(energy_j=energy_j, low_j=low_j, high_j=high_j, **common), warnings

    def rescued(self, segments: Sequence[Segment], reason: str) -> tuple[SourceReading, list[str]] | None:
        """After a reset of the counter: integrated power, and so marked. Not for a card that failed or has no power."""
        spans = [(s.start.time_s, s.end.time_s) for s in segments]
        totals_j = [total_j for s in segments for total_j in (s.start.total_j, s.end.total_j)]
        if self.kind != "measured" or any(map(math.isnan, totals_j)) or not self._covered(spans):
            return None
        energy_j = sum(self._trace.energy_j(*span) for span in spans)
        error_j = len(spans) * (self._averaging_s + self.poll_interval_s) * max(map(self._peak_w, spans))
        return SourceReading(
            name=self.name,
            kind="sampled",
            energy_j=energy_j,
            low_j=max(0.0, energy_j - error_j),
            high_j=energy_j + error_j,
            note=f"{self._card.gpu.name}, integrated power ({self._power_name}); {reason}; {self._card.gpu.uuid}",
            sensor_error_j=self._sensor_error * energy_j,
            card=self._observer.state(spans),
        ), [f"{self.name}: {reason}; its joules in this window are integrated power"]

    def describe(self) -> dict[str, Any]:
        """What was found when the meter was made, and the card's state now."""
        optional = self._card.optional
        return {
            "source": self.name,
            "kind": self.kind,
            "available": True,
            "detail": f"{self._card.gpu.name}, {self._card.gpu.uuid}",
            "reason": None if self.kind == "measured" else self._why_no_counter,
            "remedy": None,
            "period_s": self.period_s if self.kind == "measured" else None,
            "power_register": None if self._power_problem else self._power_name,
            "power_limit_w": self._limit_w,
            "temperature_c": optional("nvmlDeviceGetTemperature", 0),
            "persistence": optional("nvmlDeviceGetPersistenceMode"),
            "sm_clock_mhz": optional("nvmlDeviceGetClockInfo", 1),
            "warnings": list(self._warnings),
        }

    def last_sample(self) -> tuple[float, float] | None:
        """Of the power register; None where there is none yet. Costs nothing."""
        return (self._trace.times_s[-1], self._trace.power_w[-1]) if len(self._trace) else None

    def expected_uncertainty(self, window_s: float) -> float | None:
        """One counter period, or the lag of sampled power, in `window_s`."""
        error_s = self.period_s if self.kind == "measured" else self._averaging_s + self.poll_interval_s
        return min(1.0, error_s / window_s)

    def restart(self) -> None:
        """Nothing: the first call after a fork meets UNINITIALIZED and starts NVML again."""

    def close(self) -> None:
        """Nothing: the library is the meter's."""

    def _sample(self) -> float:
        power_w = self._card.power_w()
        now_s = time.perf_counter()
        self._trace.add(now_s, power_w)
        return now_s

    def _peak_w(self, span: tuple[float, float]) -> float:
        return self._trace.peak_w(*span)

    def _covered(self, spans: Sequence[tuple[float, float]]) -> bool:
        """Whether there are power samples nearly all the time."""
        if not len(self._trace) or self._power_problem:
            return False
        uncovered_s = sum(self._trace.uncovered_s(*span, LONGEST_HOLD_S) for span in spans)
        return uncovered_s <= MAX_UNCOVERED * sum(end_s - start_s for start_s, end_s in spans)

    def _mismatch(self, energy_j: float, error_j: float, segments: Sequence[Segment]) -> list[str]:
        spans = [(s.start.time_s, s.end.time_s) for s in segments]
        if not self._covered(spans):
            return []
        sampled_j = sum(self._trace.energy_j(*span) for span in spans)
        slack_j = error_j + len(spans) * (self._averaging_s + self.poll_interval_s) * max(map(self._peak_w, spans))
        if abs(sampled_j - energy_j) <= MAX_MISMATCH * energy_j + slack_j:
            return []
        return [f"the energy counter says {energy_j:.1f} J, the integrated power {sampled_j:.1f} J"]


def _unresolved(energy_j: float, duration_s: float, stale_s: float) -> str | None:
    """Why a counter cannot tell the energy of so short a window; None when it can."""
    if duration_s < stale_s:
        return (
            f"{duration_s * 1e3:.0f} ms is shorter than the {stale_s * 1e3:.0f} ms between two updates of the "
            "energy counter; repeat the work in one window, or align the window"
        )
    if energy_j == 0:
        return f"the energy counter stood still for {duration_s:.1f} s"
    return None


def _short(duration_s: float, stale_s: float, what: str) -> list[str]:
    """A warning for a window of fewer than `SHORT_PERIODS` times `stale_s`."""
    if duration_s >= SHORT_PERIODS * stale_s:
        return []
    return [
        f"{duration_s:.2f} s is only {duration_s / stale_s:.1f} times {what} ({stale_s * 1e3:.0f} ms): expect an error "
        f"of up to {100 * min(1.0, stale_s / duration_s):.0f} %; {SHORT_PERIODS} times are enough"
    ]
