"""The error codes of NVML in plain words, each with what to do about it. Codes: nvmlReturn_t in nvml.h."""

from __future__ import annotations

from greenprune.bench.energy.source import SensorError

UNINITIALIZED, NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND = 1, 3, 4, 13

_DRIVER = (
    "with an NVIDIA GPU, install its driver until nvidia-smi lists the card; in a container, start that with --gpus all"
)
_UPDATE = "update the NVIDIA driver"
_RESET = "sudo nvidia-smi --gpu-reset, with nobody using the GPU, or restart the machine"
_BUS = "look at `sudo dmesg | grep -i xid`, then restart the machine; where it comes again, check the card's power and slot"
_AGAIN = "try again; where it stays, restart the machine"
_REPORT = "update nvidia-ml-py and the driver; where it stays, report it with the output of `nvidia-smi -q`"

ERRORS: dict[int, tuple[str, str]] = {
    1: ("NVML is not initialised in this process", "make the meter in the process that uses it"),
    2: ("NVML rejects an argument of the call", _REPORT),
    3: ("this GPU does not support it", "a newer driver may; else only a power meter of the whole machine can tell"),
    4: ("no permission", "ask for access to /dev/nvidia*: your batch system's GPU option, or the group that owns them"),
    5: ("NVML was initialised twice", _REPORT),
    6: ("there is no such GPU", "compare the name or UUID with the output of `nvidia-smi -L`"),
    7: ("an answer did not fit", _REPORT),
    8: (
        "the GPU's power cables are not properly attached",
        "switch the machine off and attach the card's power cables",
    ),
    9: ("the NVIDIA driver is not loaded", f"sudo modprobe nvidia; if there is none: {_DRIVER}"),
    10: ("the driver did not answer in time", _AGAIN),
    11: ("the kernel has trouble with the GPU's interrupts", _BUS),
    12: ("the NVIDIA driver is not installed (libnvidia-ml.so.1 not found)", _DRIVER),
    13: ("the NVIDIA driver is too old for it", _UPDATE),
    14: (
        "the memory in which the GPU keeps its settings is damaged",
        "restart the machine; where it stays, have the card replaced",
    ),
    15: ("the GPU is lost: it fell off the bus or does not answer", _BUS),
    16: ("the GPU must be reset", _RESET),
    17: (
        "the operating system keeps the GPU from this process",
        "allow it in the container's or the job's device cgroup",
    ),
    18: (
        "the NVIDIA driver's library and its kernel module are of different versions, as after an update",
        "restart the machine, or stop all that uses the GPU and reload the module: sudo rmmod nvidia_uvm nvidia_drm "
        "nvidia_modeset nvidia && sudo modprobe nvidia; in a container, start it anew",
    ),
    19: ("the GPU is in use by something that excludes this", "wait until that has ended"),
    20: ("there is not enough memory", "free memory of the machine"),
    21: ("the GPU has no data for it yet", "let the GPU work for some seconds and try again"),
    22: ("a virtual GPU with ECC does not support it", "measure on the host"),
    23: ("the driver has run out of something it needs", "close other programs that use the GPU and try again"),
    24: ("the GPU does not support that frequency", _REPORT),
    25: ("library and caller disagree about a structure's version", _REPORT),
    26: ("the driver does not offer the function any more", "update nvidia-ml-py"),
    27: ("the GPU is not ready", "wait some seconds and try again"),
    28: ("there is no such GPU", "compare the name or UUID with the output of `nvidia-smi -L`"),
    29: ("the GPU is in a state that does not allow it", _RESET),
    30: ("the GPU cannot be reset in that way", "restart the machine"),
    999: ("an unknown error of the driver", f"look at `sudo dmesg | grep -i -e nvrm -e xid`; {_AGAIN}"),
}
"""By code: what is wrong, and the remedy."""


class NvmlError(SensorError):
    """NVML returned an error code. `remedy` says what to do about it."""

    def __init__(self, function: str, code: int, text: str) -> None:
        what, self.remedy = ERRORS.get(code, (text, _REPORT))
        super().__init__(f"{function}: {what} (NVML error {code})")
        self.code = code
