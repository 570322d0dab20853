"""A server's own power meters, behind ACPI: the mean power of the machine, or of a part of it, over the last second or so.

Linux: Documentation/hwmon/acpi_power_meter.rst (chip "power_meter": power1_average in µW over power1_average_interval ms,
power1_accuracy, power1_is_battery) and Documentation/hwmon/sysfs-interface.rst (power1_input where a meter has no average).
ACPI specification, "Power Meters". A machine's contains CPU, GPUs and fans, so its joules are never added to theirs.

NVIDIA's Grace has four to a socket, which power1_oem_info names (NVIDIA Grace Performance Tuning Guide): the module
contains Grace and the GPU, and Grace contains its cores and its SysIO. They are never added to one another either.
"""

from __future__ import annotations

import re

from greenprune.bench.energy.parts import MACHINE
from greenprune.bench.energy.sensors.place import IN_CONTAINER, Found, Place, absent, row
from greenprune.bench.energy.sensors.power import PowerSource
from greenprune.bench.energy.sensors.sysfs import Hwmon, channels, hwmons, optional_number, readable_remedy
from greenprune.bench.energy.source import SensorError, Source

CHIP = "power_meter"
DEFAULT_INTERVAL_S = 1.0
UNKNOWN_UW = 0xFFFFFFFF * 1000  # ACPI's "unknown", in mW; the driver shows µW
NAME = f"{MACHINE}power_meter"

SOCKET = re.compile(r"(Module|Grace|CPU|SysIO) Power Socket (\d+)")
COVERED = {
    "Module": "all of the module: Grace, the GPU, their memory and regulators",
    "Grace": "all of Grace, with its cores and its SysIO",
    "CPU": "the rail of Grace's cores",
    "SysIO": "the rail of Grace's SysIO",
}
"""By the first word of what `SOCKET` matches."""


def find(place: Place) -> Found:
    """Every meter as a source of its own: several may measure one another's parts."""
    meters = hwmons(place.sysfs, CHIP)
    if not meters:
        reason = f"no ACPI power meter under {place.sysfs / 'class/hwmon'}"
        remedy = "on a server that has one: sudo modprobe acpi_power_meter"
        return absent(NAME, "sampled", reason, IN_CONTAINER if place.in_container else remedy)
    labels = [SOCKET.fullmatch(meter.text("power1_oem_info") or "") for meter in meters]
    plain = [meter for meter, label in zip(meters, labels, strict=True) if label is None]
    alone = "the whole machine" if len(plain) == 1 else "the machine or a part of it"
    sources: list[Source] = []
    unusable = []
    for meter, label in zip(meters, labels, strict=True):
        if label is None:
            number = plain.index(meter)
            name, covered = NAME if number == 0 else f"{NAME}-{number}", alone
        else:
            name, covered = f"{MACHINE}{label[1].lower()}-{label[2]}", f"{COVERED[label[1]]} (socket {label[2]})"
        try:
            sources.append(_open(name, covered, meter))
        except SensorError as e:
            unusable.append(row(name, "sampled", str(e), readable_remedy(meter, "power1_*")))
    return Found(sources, unusable)


def _open(name: str, covered: str, meter: Hwmon) -> Source:
    """`covered`: what the meter measures. Raises SensorError."""
    files = [f"power{n}_{kind}" for kind in ("average", "input") for n in channels(meter.folder, "power", f"_{kind}")]
    if not files:
        raise SensorError(f"{meter.folder} shows no power")
    file = files[0]
    channel = file.partition("_")[0]
    if meter.text(f"{channel}_is_battery") == "1":
        raise SensorError(f"{meter.folder} measures a battery")
    interval_ms = optional_number(meter.folder / f"{channel}_average_interval")
    interval_s = interval_ms / 1e3 if interval_ms and interval_ms > 0 else DEFAULT_INTERVAL_S

    def read_w() -> float:
        power_uw = meter.number(file)
        if power_uw <= 0 or power_uw >= UNKNOWN_UW:
            raise SensorError(f"{meter.folder / file} says {power_uw:.0f} µW: the meter does not know")
        return power_uw / 1e6

    model = " ".join(filter(None, (meter.text(f"{channel}_oem_info"), meter.text(f"{channel}_model_number"))))
    accuracy = meter.text(f"{channel}_accuracy")
    about = f"{covered}, by the power meter {model or meter.address}"
    if accuracy:
        about += f", accuracy {accuracy.rstrip('%')} %"
    return PowerSource(
        name,
        read_w,
        lag_s=interval_s,
        poll_interval_s=min(1.0, max(0.1, interval_s / 2)),
        detail=f"{about}, {'mean' if file.endswith('average') else 'power'} over {interval_s:g} s; enters no sum",
        note=f"{about}; enters no sum",
        resolution_w=1e-6,
    )
