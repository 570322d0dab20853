"""A server's own power meter, behind ACPI: the mean power of the whole machine over the last second or so.

Linux: Documentation/hwmon/acpi_power_meter.rst (chip "power_meter": power1_average in µW over power1_average_interval ms,
power1_accuracy, power1_is_battery) and Documentation/hwmon/sysfs-interface.rst (power1_input where a meter has no average).
ACPI specification, "Power Meters". It contains CPU, GPUs and fans, so its joules are never added to theirs.
"""

from __future__ import annotations

from greenprune.bench.energy.parts import MACHINE
from greenprune.bench.energy.sensors.place import IN_CONTAINER, Found, Place, absent, row
from greenprune.bench.energy.sensors.power import PowerSource
from greenprune.bench.energy.sensors.sysfs import Hwmon, channels, hwmons, optional_number, readable_remedy
from greenprune.bench.energy.source import SensorError, Source

CHIP = "power_meter"
DEFAULT_INTERVAL_S = 1.0
UNKNOWN_UW = 0xFFFFFFFF  # ACPI's "unknown"; the driver multiplies what it is told in mW by 1000
NAME = f"{MACHINE}power_meter"


def find(place: Place) -> Found:
    """Every meter as a source of its own: several may measure one another's parts."""
    meters = hwmons(place.sysfs, CHIP)
    if not meters:
        reason = f"no ACPI power meter under {place.sysfs / 'class/hwmon'}"
        remedy = "on a server that has one: sudo modprobe acpi_power_meter"
        return absent(NAME, "sampled", reason, IN_CONTAINER if place.in_container else remedy)
    sources: list[Source] = []
    unusable = []
    for number, meter in enumerate(meters):
        name = NAME if number == 0 else f"{NAME}-{number}"
        try:
            sources.append(_open(name, meter))
        except SensorError as e:
            unusable.append(row(name, "sampled", str(e), readable_remedy(meter, "power1_*")))
    return Found(sources, unusable)


def _open(name: str, meter: Hwmon) -> Source:
    """Raises SensorError."""
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
    about = f"the whole machine, by the power meter {model or meter.address}"
    if accuracy:
        about += f", accuracy {accuracy.rstrip('%')} %"
    return PowerSource(
        name,
        read_w,
        lag_s=interval_s,
        poll_interval_s=min(1.0, max(0.1, interval_s / 2)),
        detail=f"{about}, {'mean' if file.endswith('average') else 'power'} over {interval_s:g} s; enters no sum",
        note=f"{about}; contains what other sources count",
        resolution_w=1e-6,
    )
