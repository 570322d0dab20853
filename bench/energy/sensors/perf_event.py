"""One counting event of Linux's perf_event_open, by the bare system call: no perf tool and no library is needed."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

from greenprune.bench.energy.source import SensorError

SYSCALLS = {"x86_64": 298, "i386": 336, "i686": 336, "aarch64": 241, "arm64": 241}
"""Number of perf_event_open, Linux's syscall tables."""

FLAG_FD_CLOEXEC = 8
ATTR_SIZE_VER0 = 64

# type, size, config, sample_period, sample_type, read_format, flags, wakeup_events, bp_type, config1
ATTR = struct.Struct("=IIQQQQQIIQ")


class PerfDeniedError(SensorError):
    """The kernel does not let this user count a whole CPU."""


class PerfEvent:
    """A system-wide counter of one CPU. perf_event_open(2)."""

    def __init__(self, event_type: int, config: int, cpu: int) -> None:
        """Starts at 0. Raises SensorError, or PerfDeniedError, a case of it."""
        number = SYSCALLS.get(platform.machine())
        if number is None or platform.system() != "Linux":
            raise SensorError(f"perf_event_open is not known on {platform.system()} {platform.machine()}")
        attributes = ctypes.create_string_buffer(
            ATTR.pack(event_type, ATTR_SIZE_VER0, config, 0, 0, 0, 0, 0, 0, 0), ATTR_SIZE_VER0
        )
        call = ctypes.CDLL(None, use_errno=True).syscall
        call.restype = ctypes.c_long
        arguments = (number, attributes, -1, cpu, -1, FLAG_FD_CLOEXEC)
        self._fd = int(call(*(a if i == 1 else ctypes.c_long(a) for i, a in enumerate(arguments))))  # type: ignore[arg-type]
        if self._fd < 0:
            code = ctypes.get_errno()
            text = f"perf_event_open of the event {config:#x} on CPU {cpu}: {os.strerror(code)}"
            raise (PerfDeniedError if code in (1, 13) else SensorError)(text)  # EPERM, EACCES

    def read(self) -> int:
        """The count since it was opened. Raises SensorError."""
        try:
            return int.from_bytes(os.read(self._fd, 8), "little")
        except OSError as e:
            raise SensorError(f"the perf event cannot be read ({e.strerror})") from None

    def close(self) -> None:
        """Give the event back; a second time does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
