"""NVIDIA Jetson: the module's INA3221 chips measure voltage and current of its power rails.

NVIDIA, Jetson Linux Developer Guide, "Power Monitor" of each module (rail names and addresses), and Linux,
Documentation/hwmon/ina3221.rst: in[123]_label names the rail, in[123]_input is in mV, curr[123]_input in mA,
in[123]_enable says whether it is measured, in7 is a sum of shunt voltages, update_interval in ms. JetPack 4 and older:
/sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_N and in_power<N>_input in mW.

The input rail of a module (VDD_IN, POM_5V_IN ...) is the whole module and is never added to the others. Rails of the
carrier board and rails without a name are not used: nobody can tell whether they lie above or below another.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from greenprune.bench.energy.parts import JETSON, MACHINE
from greenprune.bench.energy.sensors.place import IN_CONTAINER, Found, Place, absent, row
from greenprune.bench.energy.sensors.power import PowerSource
from greenprune.bench.energy.sensors.sysfs import (
    Hwmon,
    channels,
    folders,
    hwmons,
    optional_number,
    optional_text,
    read_number,
)
from greenprune.bench.energy.source import SensorError, Source

WHOLE = ("VDD_IN", "POM_5V_IN", "VIN", "VDD_MUX")
"""Input rails; the first that is there is the module, VDD_MUX the carrier board with it."""

PART = re.compile(r"GPU|CPU|SOC|CV|DDR|VDD2|SYS5V|VIN_SYS_5V0")
"""In the names of the module's own rails."""

CONTAINED = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}
"""Rails that another one feeds (Jetson AGX Orin): not added to it."""

DEFAULT_LAG_S = 0.1


@dataclass(frozen=True)
class Rail:
    """One measured rail."""

    name: str
    folder: Path
    read_w: Callable[[], float]
    lag_s: float


def find(place: Place) -> Found:
    """The rails as sources, one each."""
    rails, problems = _rails_by_hwmon(place.sysfs)
    if not rails and not problems:
        rails, problems = _rails_by_iio(place.sysfs)
    unusable = [row(f"{JETSON}{where}", "sampled", why, remedy) for where, why, remedy in problems]
    if not rails and not unusable:
        reason = "no INA3221 power monitor: this is no Jetson, or its sensors are hidden"
        return absent("jetson", "sampled", reason, IN_CONTAINER if place.in_container else None)
    names = {rail.name for rail in rails}
    sources: list[Source] = []
    for rail in rails:
        whole = rail.name in WHOLE
        above = CONTAINED.get(rail.name)
        if not whole and (above in names or not PART.search(rail.name)):
            why = (
                f"part of {above}" if above else "a rail of the carrier board, which may feed others or be fed by them"
            )
            unusable.append(row(f"{JETSON}{rail.name}", "sampled", why))
            continue
        name = f"{MACHINE if whole else JETSON}{rail.name}"
        about = f"power rail {rail.name}{', the whole module' if whole else ''}"
        try:
            sources.append(
                PowerSource(
                    name,
                    rail.read_w,
                    lag_s=rail.lag_s,
                    detail=f"{about}{'; enters no sum' if whole else ''}",
                    note=f"{about}, integrated power",
                )
            )
        except SensorError as e:
            unusable.append(
                row(
                    name,
                    "sampled",
                    str(e),
                    f"sudo chmod a+r {rail.folder}/*_input (until the next start of the machine)",
                )
            )
    return Found(sources, unusable)


Problem = tuple[str, str, str | None]


def _rails_by_hwmon(sysfs: Path) -> tuple[list[Rail], list[Problem]]:
    rails: dict[str, Rail] = {}
    problems: list[Problem] = []
    for chip in hwmons(sysfs, "ina3221"):
        interval_ms = optional_number(chip.folder / "update_interval")
        lag_s = max(DEFAULT_LAG_S, (interval_ms or 0.0) / 1e3)
        for channel in channels(chip.folder, "in", "_input"):
            if channel > 3:  # shunt voltages
                continue
            label = chip.text(f"in{channel}_label")
            if label == "NC" or optional_number(chip.folder / f"in{channel}_enable") == 0:
                continue
            if label is None:
                why = f"channel {channel} has no label: what it measures is not known"
                problems.append((f"{chip.address}-in{channel}", why, None))
            elif label in rails:
                problems.append((label, f"a second rail of this name, in {chip.folder}", None))
            else:
                rails[label] = Rail(label, chip.folder, _product(chip, channel), lag_s)
    return list(rails.values()), problems


def _product(chip: Hwmon, channel: int) -> Callable[[], float]:
    def read_w() -> float:
        volts = chip.number(f"in{channel}_input") / 1e3
        amperes = chip.number(f"curr{channel}_input") / 1e3
        return max(0.0, volts * amperes)  # an idle rail's offset may be a little below zero

    return read_w


def _rails_by_iio(sysfs: Path) -> tuple[list[Rail], list[Problem]]:
    rails: dict[str, Rail] = {}
    problems: list[Problem] = []
    for chip in folders(sysfs / "bus" / "i2c" / "drivers" / "ina3221x"):
        for folder in [*folders(chip, "iio:device*"), *folders(chip, "iio_device")]:
            for channel in channels(folder, "rail_name_", ""):
                label = optional_text(folder / f"rail_name_{channel}")
                if label == "NC":
                    continue
                if label is None:
                    problems.append((f"{chip.name}-{channel}", f"channel {channel} has no name", None))
                elif label not in rails:
                    file = folder / f"in_power{channel}_input"
                    rails[label] = Rail(label, folder, _milliwatts(file), DEFAULT_LAG_S)
    return list(rails.values()), problems


def _milliwatts(file: Path) -> Callable[[], float]:
    return lambda: max(0.0, read_number(file) / 1e3)
