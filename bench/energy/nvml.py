"""Energy of NVIDIA GPUs: the card's own counter where it works, else its power, sampled and integrated.

Both count the whole card, whoever uses it. The sensor's systematic error (about 5 % against an external meter on A100
and RTX 30/40, per card and constant; Yang et al., "Part-time Power Measurements", SC 2024) is not in the bounds:
it cancels in a ratio of two readings of the same card, and repeating does not reduce it.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.energy.processes import tree_pids
from bench.energy.reading import Kind, SourceReading
from bench.energy.source import Counter, Mark, Segment, SensorError, edge_error_s
from bench.energy.trace import PowerTrace
from bench.energy.visible import Gpu

SHORT_PERIODS = 50  # a window of fewer counter periods is flagged: its error is about one period in that many
LONGEST_HOLD_S = 1.0  # a power sample older than this says nothing about now
MAX_UNCOVERED = 0.05  # fraction of a window without power samples above which its sampled energy is invalid
MAX_MISMATCH = 0.05  # fraction by which the counter and the integrated power may differ without a warning

_UNINITIALIZED, _NOT_SUPPORTED, _NO_PERMISSION, _FUNCTION_NOT_FOUND = 1, 3, 4, 13
_REASONS = {
    _NOT_SUPPORTED: "this GPU does not support it",
    _NO_PERMISSION: "no permission",
    9: "the NVIDIA driver is not loaded",
    12: "the NVIDIA driver is not installed (libnvidia-ml.so.1 not found)",
    _FUNCTION_NOT_FOUND: "the NVIDIA driver is too old for it",
    15: "the GPU is lost",
    16: "the GPU must be reset",
}
_SLOWED = {0x8: "hardware slowdown", 0x20: "software thermal limit", 0x40: "heat", 0x80: "power brake"}


class NvmlError(SensorError):
    """NVML returned an error code."""

    def __init__(self, function: str, code: int, text: str) -> None:
        super().__init__(f"{function}: {_REASONS.get(code, text)} (NVML error {code})")
        self.code = code


class Nvml:
    """The library, initialised once per process. NVML does not survive a fork."""

    def __init__(self) -> None:
        """Raises NvmlError when there is no driver or it does not answer."""
        import pynvml

        self._module = pynvml
        self.init()

    def init(self) -> None:
        """Initialise, in a forked child again. Raises NvmlError."""
        self.call("nvmlInit")

    def call(self, function: str, *args: Any) -> Any:
        """Call a function of pynvml. Raises NvmlError."""
        try:
            return getattr(self._module, function)(*args)
        except self._module.NVMLError as e:
            raise NvmlError(function, e.value, str(e)) from None

    def gpus(self) -> list[Gpu]:
        """All cards of the machine in NVML's order. Raises NvmlError."""
        found = []
        for index in range(self.call("nvmlDeviceGetCount")):
            handle = self.call("nvmlDeviceGetHandleByIndex", index)
            found.append(Gpu(index, self.call("nvmlDeviceGetUUID", handle), self.call("nvmlDeviceGetName", handle)))
        return found

    def close(self) -> None:
        """Shut down; an error then is of no use to anyone."""
        with contextlib.suppress(NvmlError):
            self.call("nvmlShutdown")


class Card:
    """The sensors of one card. After a fork it finds its way back by UUID."""

    def __init__(self, library: Nvml, gpu: Gpu) -> None:
        """Raises NvmlError."""
        self._library = library
        self.gpu = gpu
        self._handle = library.call("nvmlDeviceGetHandleByUUID", gpu.uuid)
        self._power_field: int | None = None

    def call(self, function: str, *args: Any) -> Any:
        """Call a function of pynvml on this card. Raises NvmlError."""
        try:
            return self._library.call(function, self._handle, *args)
        except NvmlError as e:
            if e.code != _UNINITIALIZED:
                raise
        self._library.init()
        self._handle = self._library.call("nvmlDeviceGetHandleByUUID", self.gpu.uuid)
        return self._library.call(function, self._handle, *args)

    def counter_j(self) -> float:
        """Energy since the driver was loaded. Raises NvmlError."""
        return self.call("nvmlDeviceGetTotalEnergyConsumption") / 1e3

    def power_w(self) -> float:
        """Power now, from the field that `find_power_field` chose. Raises NvmlError."""
        if self._power_field is None:
            return self.call("nvmlDeviceGetPowerUsage") / 1e3
        value = self.call("nvmlDeviceGetFieldValues", [self._power_field])[0]
        if value.nvmlReturn:
            raise NvmlError("nvmlDeviceGetFieldValues", value.nvmlReturn, "the power field failed")
        return value.value.uiVal / 1e3

    def find_power_field(self) -> tuple[str, float]:
        """Choose the quickest power register that works: its name, and over how many seconds it averages at most.

        `nvmlDeviceGetPowerUsage` is a 1 s average on Ampere (except A100) and newer, so the instant field goes first.
        Raises NvmlError when there is none.
        """
        for field, name, averaging_s in ((186, "instant", 0.1), (185, "1 s average", 1.0)):
            self._power_field = field
            with contextlib.suppress(NvmlError):
                self.power_w()
                return name, averaging_s
        self._power_field = None
        self.power_w()
        return "driver's default, up to a 1 s average", 1.0

    def optional(self, function: str, *args: Any) -> Any:
        """The answer, or None where the card or the driver has none."""
        try:
            return self.call(function, *args)
        except NvmlError:
            return None


def probe_period_s(read: Callable[[], float], *, ticks: int = 4, limit_s: float = 1.5) -> float | None:
    """Median time between two changes of a counter, None when it changes fewer than twice in `limit_s`.

    Takes `ticks` + 1 periods. Raises whatever `read` raises.
    """
    begin_s = time.perf_counter()
    last = read()
    changed_s: list[float] = []
    while len(changed_s) <= ticks and time.perf_counter() - begin_s < limit_s:
        time.sleep(0.0005)
        current, now_s = read(), time.perf_counter()
        if current != last:
            changed_s.append(now_s)
            last = current
    steps_s = [b - a for a, b in itertools.pairwise(changed_s)]
    return statistics.median(steps_s) if steps_s else None


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
        self._slowed: list[tuple[float, int]] = []  # time in s, bits of _SLOWED
        self._last_slow_check_s = -math.inf
        self._limit_w = (card.optional("nvmlDeviceGetEnforcedPowerLimit") or 1_000_000) / 1e3
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
        now_s = time.perf_counter()
        if now_s - self._last_slow_check_s >= 1.0:
            self._last_slow_check_s = now_s
            bits = (self._card.optional("nvmlDeviceGetCurrentClocksThrottleReasons") or 0) & sum(_SLOWED)
            if bits:
                self._slowed.append((now_s, bits))

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
        warnings = self._observed(segments)
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
        common: dict[str, Any] = {"name": self.name, "kind": self.kind, "note": f"{note}; {self._card.gpu.uuid}"}
        if reason:
            return SourceReading(energy_j=None, valid=False, reason=reason, **common), warnings
        low_j, high_j = max(0.0, energy_j - over_s * peak_w), energy_j + under_s * peak_w
        return SourceReading(energy_j=energy_j, low_j=low_j, high_j=high_j, **common), warnings

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

    def restart(self) -> None:
        """Nothing: the first call after a fork meets UNINITIALIZED and starts NVML again."""

    def close(self) -> None:
        """Nothing: the library is the meter's."""

    def _sample(self) -> float:
        power_w = self._card.power_w()
        now_s = time.perf_counter()
        self._trace.add(now_s, power_w)
        return now_s

    def _mismatch(self, energy_j: float, error_j: float, segments: Sequence[Segment]) -> list[str]:
        if not len(self._trace) or self._power_problem:
            return []
        spans = [(s.start.time_s, s.end.time_s) for s in segments]
        uncovered_s = sum(self._trace.uncovered_s(*span, LONGEST_HOLD_S) for span in spans)
        if uncovered_s > MAX_UNCOVERED * sum(s.duration_s for s in segments):
            return []
        sampled_j = sum(self._trace.energy_j(*span) for span in spans)
        lag_s = len(segments) * (self._averaging_s + self.poll_interval_s)
        slack_j = error_j + lag_s * max(self._trace.peak_w(*span) for span in spans)
        if abs(sampled_j - energy_j) <= MAX_MISMATCH * energy_j + slack_j:
            return []
        return [f"the energy counter says {energy_j:.1f} J, the integrated power {sampled_j:.1f} J"]

    def _observed(self, segments: Sequence[Segment]) -> list[str]:
        found = []
        bits = 0
        for time_s, seen in self._slowed:
            if any(s.start.time_s <= time_s <= s.end.time_s for s in segments):
                bits |= seen
        if bits:
            found.append("slowed down by " + ", ".join(text for bit, text in _SLOWED.items() if bits & bit))
        processes = self._card.optional("nvmlDeviceGetComputeRunningProcesses") or []
        others = sorted({p.pid for p in processes} - tree_pids())
        if others:
            found.append(
                f"process {', '.join(map(str, others))} on this GPU is not of this process tree as far as the driver "
                "tells; the energy of the whole GPU is counted"
            )
        return found


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
