"""The amdsmi library: its devices, which of them HIP shows, and the registers of one."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from greenprune.bench.energy.sensors.quiet import quiet_import
from greenprune.bench.energy.source import SensorError

UNKNOWN = (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
"""What registers hold that are not there."""


@dataclass(frozen=True)
class Device:
    """One processor of AMD SMI's: a card, or a partition of one."""

    index: int  # in HIP's order, without any variable that hides some
    handle: Any
    address: str  # of PCI: "0000:0c:00.0"
    name: str
    uuids: frozenset[str]  # in lower case, every form that is known, without "gpu-" and dashes
    socket: str  # what the counter belongs to; the same for all devices that share it


class AmdSmi:
    """The library, initialised."""

    def __init__(self, load: Callable[[], Any] | None = None) -> None:
        """Raises ImportError without the package or its library, SensorError when it does not start."""
        try:
            self._module = (load or _load)()
        except ImportError:
            raise
        except Exception as e:  # amdsmi raises KeyError and OSError where its shared library is missing
            raise ImportError(f"{type(e).__name__}: {e}") from None
        with quiet_import():
            self.call("amdsmi_init")

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function of amdsmi. Raises SensorError with what the library says."""
        try:
            return getattr(self._module, function)(*arguments)
        except AttributeError:
            raise SensorError(f"{function}: this version of amdsmi does not have it") from None
        except Exception as e:
            raise SensorError(f"{function}: {' '.join(str(e).split())}") from None

    def optional(self, function: str, *arguments: Any) -> Any:
        """The answer, or None where there is none."""
        with contextlib.suppress(SensorError):
            return self.call(function, *arguments)
        return None

    def devices(self) -> list[Device]:
        """All devices in HIP's order: by HIP's own number, else by the number of the kernel's compute node.

        Raises:
            SensorError: the library does not list them.
        """
        found = []
        for position, handle in enumerate(self.call("amdsmi_get_processor_handles")):
            numbers = self.optional("amdsmi_get_gpu_enumeration_info", handle) or {}
            node = self.optional("amdsmi_get_gpu_kfd_info", handle) or {}
            asic = self.optional("amdsmi_get_gpu_asic_info", handle) or {}
            address = self.optional("amdsmi_get_gpu_device_bdf", handle)
            names = (
                numbers.get("hip_uuid"),
                asic.get("asic_serial"),
                self.optional("amdsmi_get_gpu_device_uuid", handle),
            )
            order = (_known(numbers.get("hip_id")), _known(node.get("node_id")), position)
            name = str(asic.get("market_name") or "AMD GPU")
            uuids = frozenset(plain_uuid(str(text)) for text in names if text and text != "N/A")
            found.append((order, handle, str(address or ""), name, uuids))
        complete = [all(order[i] is not None for order, *_ in found) for i in (0, 1)]
        column = 0 if complete[0] else 1 if complete[1] else 2
        found.sort(key=lambda entry: (entry[0][column], entry[0][2]))
        sockets = _sockets([(address, name) for _, _, address, name, _ in found])
        return [
            Device(index, handle, address, name, uuids, socket)
            for index, ((_, handle, address, name, uuids), socket) in enumerate(zip(found, sockets, strict=True))
        ]

    def energy_reader(self, device: Device) -> Callable[[], float]:
        """Joules since the last reset of the GPU."""

        def read_j() -> float:
            found = self.call("amdsmi_get_energy_count", device.handle)
            count = _known(found.get("energy_accumulator", found.get("power")))
            step_uj = _known(found.get("counter_resolution"))
            if count is None or not step_uj:
                raise SensorError("amdsmi_get_energy_count: this device has no counter (N/A)")
            return count * step_uj / 1e6

        return read_j

    def resolution_j(self, device: Device) -> float | None:
        """The counter's smallest step."""
        found = self.optional("amdsmi_get_energy_count", device.handle) or {}
        step_uj = _known(found.get("counter_resolution"))
        return None if step_uj is None else step_uj / 1e6

    def power_reader(self, device: Device) -> Callable[[], float]:
        """Power of the socket in W, from the first of its registers that is there."""

        def read_w() -> float:
            found = self.call("amdsmi_get_power_info", device.handle)
            for key in ("current_socket_power", "average_socket_power", "socket_power"):
                power_w = _known(found.get(key))
                if power_w:
                    return power_w
            raise SensorError("amdsmi_get_power_info: this device has no socket power (N/A)")

        return read_w

    def limit_w(self, device: Device) -> float | None:
        """The socket's power cap, None where it is not told."""
        found = self.optional("amdsmi_get_power_cap_info", device.handle) or {}
        cap = _known(found.get("power_cap"))
        if not cap:
            return None
        return cap / 1e6 if cap > 1e5 else cap  # µW on bare metal, W in older versions


def shown(
    devices: Sequence[Device],
    device: str | None,
    uuids: Sequence[str] | None,
    environ: Mapping[str, str],
    job_gpus: Sequence[int] = (),
) -> list[Device]:
    """The devices that HIP shows a process, or those with the `uuids`, or the one that is `device` ("cuda:1"), or all of a
    batch job's (`job_gpus`, as of `Place`) where they are more and all of them are there.

    ROCR_VISIBLE_DEVICES holds numbers or UUIDs and comes first; HIP_VISIBLE_DEVICES, or CUDA_VISIBLE_DEVICES without it,
    holds numbers of what is left. A list is read up to its first entry that names nothing; an empty one hides all.
    Rules: ROCm documentation, "GPU isolation techniques".
    """
    if uuids:
        wanted = [plain_uuid(text) for text in uuids]
        return [d for d in devices if any(_same(own, text) for own in d.uuids for text in wanted)]
    chosen = _listed(list(devices), environ.get("ROCR_VISIBLE_DEVICES"))
    chosen = _listed(chosen, environ.get("HIP_VISIBLE_DEVICES", environ.get("CUDA_VISIBLE_DEVICES")))
    if device is not None:
        number = int(device.partition(":")[2] or 0)
        chosen = chosen[number : number + 1]
    of_job = [d for d in devices if d.index in job_gpus]
    return of_job if len(of_job) == len(job_gpus) > len(chosen) else chosen


def _sockets(cards: Sequence[tuple[str, str]]) -> list[str]:
    """For each device, given as its PCI address and its name, what its counter belongs to.

    Partitions of one card differ in the PCI function alone. The two dies of an MI250 are neighbours on the bus; one of
    them counts for both, and the other shows 0 (ROCm's rocm-smi: "Secondary die").
    """
    sockets = [address.rpartition(".")[0] or f"device {i}" for i, (address, _) in enumerate(cards)]
    dies = sorted(
        (i for i, (address, name) in enumerate(cards) if "MI250" in name and address), key=lambda i: cards[i][0]
    )
    for first, second in zip(dies[::2], dies[1::2], strict=False):
        sockets[second] = sockets[first]
    return sockets


def plain_uuid(text: str) -> str:
    """A UUID without what differs between the ways to write it.

    PyTorch gives the 16 characters of HIP's "GPU-4b2c1a9f8d3e6f7a" as if they were 16 raw bytes.
    """
    text = text.strip().lower().removeprefix("gpu-").removeprefix("0x").replace("-", "")
    if re.fullmatch(r"(3[0-9]|6[1-6]){16}", text):
        return bytes.fromhex(text).decode("ascii")
    return text


def _same(own: str, wanted: str) -> bool:
    return bool(wanted) and own == wanted


def _listed(devices: list[Device], value: str | None) -> list[Device]:
    if value is None:
        return devices
    chosen: list[Device] = []
    for entry in (part.strip() for part in value.split(",")):
        if entry.lower().startswith("gpu-"):
            found = [d for d in devices if any(_same(own, plain_uuid(entry)) for own in d.uuids)]
        else:
            found = devices[int(entry) : int(entry) + 1] if entry.isdigit() else []
        if not found:
            break
        chosen += [d for d in found if d not in chosen]
    return chosen


def _known(value: Any) -> float | None:
    """A number, None for "N/A" and for what registers hold that are not there."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value in UNKNOWN:
        return None
    return value


def _load() -> Any:
    with quiet_import():
        return importlib.import_module("amdsmi")
