"""CPU time of a process and all that descend from it, by Linux's performance events.

A `task-clock` event that is inherited counts every thread and child that is born after it was opened, wherever it goes
and whoever waits for it. It needs no rights where /proc/sys/kernel/perf_event_paranoid is 2 or less; containers often
forbid the call. Not counted: a program that gains rights when it starts (setuid). Layout: <linux/perf_event.h>.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

_CALL = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "loongarch64": 241, "ppc64le": 319, "s390x": 331}
_SOFTWARE, _TASK_CLOCK, _ATTRIBUTE_BYTES = 1, 1, 112
_INHERIT, _EXCLUDE_KERNEL, _EXCLUDE_HYPERVISOR = 1 << 1, 1 << 5, 1 << 6  # a clock runs on in the kernel all the same
_CLOSE_ON_EXEC = 8


class TaskClock:
    """Counts from when it is made. Raises OSError where the kernel does not let."""

    def __init__(self, pid: int) -> None:
        number = _CALL.get(platform.machine())
        if number is None or not os.path.exists("/proc/sys/kernel/perf_event_paranoid"):
            raise OSError("no performance events here")
        flags = _INHERIT | _EXCLUDE_KERNEL | _EXCLUDE_HYPERVISOR
        attribute = struct.pack("=IIQQQQQ", _SOFTWARE, _ATTRIBUTE_BYTES, _TASK_CLOCK, 0, 0, 0, flags)
        library = ctypes.CDLL(None, use_errno=True)
        buffer = ctypes.create_string_buffer(attribute, _ATTRIBUTE_BYTES)
        self._file: int = library.syscall(
            ctypes.c_long(number), buffer, ctypes.c_int(pid), ctypes.c_int(-1), ctypes.c_int(-1),
            ctypes.c_ulong(_CLOSE_ON_EXEC),
        )  # fmt: skip
        if self._file < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def cpu_s(self) -> float:
        return int(struct.unpack("=Q", os.read(self._file, 8))[0]) / 1e9

    def close(self) -> None:
        os.close(self._file)
