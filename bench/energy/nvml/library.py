"""The NVML library and the sensors of one card: calls, their errors in words, and which registers work."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from greenprune.bench.energy.nvml.errors import NO_PERMISSION, UNINITIALIZED, NvmlError
from greenprune.bench.energy.nvml.visible import Gpu
from greenprune.bench.energy.source import with_remedy

GPU_SCOPE, MODULE_SCOPE = 0, 1  # NVML_POWER_SCOPE_GPU, NVML_POWER_SCOPE_MODULE
_INSTANT, _AVERAGE = 186, 185  # NVML_FI_DEV_POWER_INSTANT, NVML_FI_DEV_POWER_AVERAGE


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
        """All cards of the machine in NVML's order, with what is wrong where one does not answer. Raises NvmlError."""
        found = []
        for index in range(self.call("nvmlDeviceGetCount")):
            uuid, name = "", "an NVIDIA GPU"
            try:
                handle = self.call("nvmlDeviceGetHandleByIndex", index)
                uuid = self.call("nvmlDeviceGetUUID", handle)
                with contextlib.suppress(Exception):
                    name = self.call("nvmlDeviceGetName", handle)
            except NvmlError as e:
                found.append(Gpu(index, uuid, name, problem=with_remedy(e), foreign=e.code == NO_PERMISSION))
                continue
            except Exception as e:  # an answer that cannot be read is that card's trouble alone
                found.append(Gpu(index, uuid, name, problem=f"{type(e).__name__}: {e}"))
                continue
            found.append(Gpu(index, uuid, name))
        return found

    def handle(self, gpu: Gpu) -> Any:
        """NVML's own handle of a card. Raises NvmlError."""
        try:
            return self.call("nvmlDeviceGetHandleByUUID", gpu.uuid)
        except NvmlError:  # to find a UUID the driver may ask every card, and another one may be lost
            handle = self.call("nvmlDeviceGetHandleByIndex", gpu.index)
            if self.call("nvmlDeviceGetUUID", handle) != gpu.uuid:
                raise
            return handle

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
        self._handle = library.handle(gpu)
        self._power_field: int | None = None
        self.has_module_power = False

    def call(self, function: str, *args: Any) -> Any:
        """Call a function of pynvml on this card. Raises NvmlError."""
        try:
            return self._library.call(function, self._handle, *args)
        except NvmlError as e:
            if e.code != UNINITIALIZED:
                raise
        self._library.init()
        self._handle = self._library.handle(self.gpu)
        return self._library.call(function, self._handle, *args)

    def counter_j(self) -> float:
        """Energy since the driver was loaded. Raises NvmlError."""
        return self.call("nvmlDeviceGetTotalEnergyConsumption") / 1e3

    def power_w(self) -> float:
        """Power now, from the field that `find_power_field` chose. Raises NvmlError."""
        return self.powers_w()[0]

    def powers_w(self) -> tuple[float, float | None]:
        """Power now of the GPU and, where NVML tells it, of the module that it is part of. Raises NvmlError."""
        if self._power_field is None:
            return self.call("nvmlDeviceGetPowerUsage") / 1e3, None
        if not self.has_module_power:
            return self._fields_w([self._power_field])[0], None
        gpu_w, module_w = self._fields_w([(self._power_field, GPU_SCOPE), (self._power_field, MODULE_SCOPE)])
        return gpu_w, module_w

    def find_power_field(self) -> tuple[str, float]:
        """Choose the quickest power register that works: its name, and over how many seconds it averages at most.

        `nvmlDeviceGetPowerUsage` is a 1 s average on Ampere (except A100) and newer, so the instant field goes first.
        Raises NvmlError when there is none.
        """
        for field, name, averaging_s in ((_INSTANT, "instant", 0.1), (_AVERAGE, "1 s average", 1.0)):
            self._power_field = field
            with contextlib.suppress(NvmlError):
                self.power_w()
                with contextlib.suppress(NvmlError):
                    self._fields_w([(field, MODULE_SCOPE)])
                    self.has_module_power = True
                return name, averaging_s
        self._power_field = None
        self.power_w()
        return "driver's default, up to a 1 s average", 1.0

    def _fields_w(self, fields: Sequence[int | tuple[int, int]]) -> list[float]:
        values = self.call("nvmlDeviceGetFieldValues", list(fields))
        for value in values:
            if value.nvmlReturn:
                raise NvmlError("nvmlDeviceGetFieldValues", value.nvmlReturn, "the power field failed")
        return [value.value.uiVal / 1e3 for value in values]

    def optional(self, function: str, *args: Any) -> Any:
        """The answer, or None where the card or the driver has none."""
        try:
            return self.call(function, *args)
        except Exception:
            return None
