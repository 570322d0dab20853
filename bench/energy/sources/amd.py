"""AMD GPUs through AMD SMI: the socket's energy counter where it works, else its power, sampled and integrated.

AMD SMI Python API reference: amdsmi_get_energy_count gives energy_accumulator ("power" before ROCm 6.4) and
counter_resolution in µJ; their product is the energy since the last restart or reset of the GPU. amdsmi_get_power_info gives
socket powers in W, "N/A" (or 0xFFFF) where a card has none: current_socket_power on MI300 and newer, average_socket_power on
older cards. Neither works in a virtual machine.

Both belong to the socket. Partitions of one card (MI300X in DPX, QPX or CPX mode) are devices of their own that show the same
counter: they differ in the function of their PCI address alone, and are counted once. So are the two dies of an MI250, of
which one counts for both and the other shows 0.

An MI300A is a processor too: its socket holds the machine's CPU cores and all of its memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from greenprune.bench.energy.counting.ticks import probe_period_s
from greenprune.bench.energy.sensors.amdsmi import AmdSmi, Device, shown
from greenprune.bench.energy.sensors.counter import CounterSource
from greenprune.bench.energy.sensors.place import Found, Place, absent, row
from greenprune.bench.energy.sensors.power import PowerRegister, PowerSource
from greenprune.bench.energy.sensors.sysfs import folders, optional_text
from greenprune.bench.energy.source import Missing, SensorError, Source

NAME = "amd"
VENDOR = "0x1002"
WITH_CORES = "MI300A"  # in the name of a card
POLL_INTERVAL_S = 0.5  # of the counter; to ask the card's firmware costs about a millisecond
PROBE_S = 0.3  # for the counter to move three times
ASSUMED_PERIOD_S = 0.1
MAX_POWER_W = 10_000.0  # of one card; more can only be a counter that was reset
POWER_LAG_S = 1.0  # average_socket_power is a mean over about a second; AMD does not say how long exactly
GROUPS = (
    "sudo usermod -aG render,video $USER, then log in again; in a container: --device /dev/kfd --device /dev/dri "
    "--group-add video --group-add $(getent group render | cut -d: -f3)"
)
INSTALL = (
    "install the amdsmi of your ROCm: pip install /opt/rocm/share/amd_smi (or pip install amdsmi of the same version)"
)


def find(place: Place, load: Callable[[], Any] | None = None) -> Found:
    """The cards that HIP would show, each once. One that fails is a source that says so."""
    if place.device == "cpu" and not place.gpu_uuids:
        return absent(NAME, "measured", "not used: the device is the CPU")
    try:
        library = AmdSmi(load)
        devices = library.devices()
    except ImportError as e:
        if _cards(place):
            return Found(unusable=[row(NAME, "measured", f"amdsmi cannot be imported ({e})", INSTALL)])
        return absent(NAME, "measured", "no AMD GPU (and no amdsmi)")
    except SensorError as e:
        if _cards(place):
            return Found(unusable=[row(NAME, "measured", str(e), GROUPS)])
        return absent(NAME, "measured", f"no AMD GPU ({e})")
    if not devices:
        return absent(NAME, "measured", "amdsmi shows no GPU", GROUPS if _cards(place) else None)
    chosen = shown(devices, place.device, place.gpu_uuids, place.environ, place.job_gpus)
    if not chosen:
        return absent(NAME, "measured", "HIP shows no such GPU (ROCR_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES, the device)")
    sockets: dict[str, list[Device]] = {}
    for device in chosen:
        sockets.setdefault(device.socket, []).append(device)
    sources: list[Source] = []
    whole: list[str] = []
    left_out = any(WITH_CORES in device.name and device.socket not in sockets for device in devices)
    for socket, members in sockets.items():
        everyone = [device for device in devices if device.socket == socket]
        try:
            sources.append(_open(library, everyone, members, left_out))
            if WITH_CORES in members[0].name:
                whole.append(sources[-1].name)
        except SensorError as e:
            sources.append(Missing(f"{NAME}:{members[0].index}", str(e), GROUPS if "NO_PERM" in str(e) else None))
    return Found(sources, whole_sockets=whole)


def _open(library: AmdSmi, everyone: list[Device], members: list[Device], left_out: bool) -> Source:
    """A source of the socket that `members` are partitions of; `everyone` are all of its partitions.

    `left_out`: there are other sockets with cores, which are not read.

    Not every partition answers for the socket: the first of them that does is asked. Raises SensorError.
    """
    name = f"{NAME}:{members[0].index}"
    problems = []
    readers = {device.index: library.power_reader(device) for device in everyone}
    powers = {device.index: _answers(readers[device.index]) for device in everyone}
    for device in sorted(everyone, key=lambda d: (not powers[d.index], d.index)):
        read_w = readers[device.index]
        beside = None
        if powers[device.index]:
            beside = PowerRegister(read_w, lag_s=POWER_LAG_S, interval_s=POLL_INTERVAL_S)
        about = f"{device.name}, {device.address}"
        warnings = []
        if len(everyone) > 1:
            about += f", the socket of {len(everyone)} devices"
            if len(members) < len(everyone):
                warnings.append("its joules are of the whole socket, also of its devices that are not used here")
        if WITH_CORES in device.name:
            beyond = "; those of the other sockets are in no figure" if left_out else ""
            warnings.append(f"its joules contain those of the CPU cores and the memory in the same socket{beyond}")
        try:
            return _counter(library, device, name, about, beside, warnings)
        except SensorError as e:
            problems.append(str(e))
        if beside is not None:
            about_power = f"{about}, socket power"
            return PowerSource(
                name,
                read_w,
                lag_s=POWER_LAG_S,
                detail=about_power,
                note=f"{about_power}, integrated; {problems[-1]}",
                why=problems[-1],
                resolution_w=1.0,
                warnings=warnings,
            )
    raise SensorError(f"neither energy nor power: {problems[0]}")


def _answers(read_w: Callable[[], float]) -> bool:
    try:
        return read_w() > 0
    except SensorError:
        return False


def _counter(
    library: AmdSmi, device: Device, name: str, about: str, beside: PowerRegister | None, warnings: list[str]
) -> Source:
    """Raises SensorError where the counter does not work."""
    read_j = library.energy_reader(device)
    if read_j() == 0:
        raise SensorError("the energy counter stands at 0")
    period_s = probe_period_s(read_j, limit_s=PROBE_S)
    return CounterSource(
        name,
        read_j,
        period_s=period_s or ASSUMED_PERIOD_S,
        max_power_w=MAX_POWER_W,
        limit_w=library.limit_w(device),
        detail=about,
        note=f"{about}, energy counter, all processes",
        resolution_j=library.resolution_j(device),
        poll_interval_s=POLL_INTERVAL_S,
        beside=beside,
        warnings=warnings,
    )


def _cards(place: Place) -> bool:
    """Whether there is hardware of AMD's that computes."""
    if (place.root / "dev" / "kfd").exists():
        return True
    return any(
        optional_text(card / "device" / "vendor") == VENDOR for card in folders(place.sysfs / "class" / "drm", "card*")
    )
