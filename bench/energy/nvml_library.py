"""The NVML library and the sensors of one card: calls, their errors in words, and which registers work."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

from greenprune.bench.energy.source import SensorError
from greenprune.bench.energy.visible import Gpu

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
