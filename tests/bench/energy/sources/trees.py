"""Stand-ins for sysfs: a folder with the files that a driver would show."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from greenprune.bench.energy import EnergyMeter, Reading
from greenprune.bench.energy.sensors.place import Place


def hwmon(sysfs: Path, number: int, chip: str, device: str | None = None, **files: Any) -> Path:
    """A device of the hwmon class with `files`; `device` is its folder below /sys/devices, linked as the kernel does."""
    folder = sysfs / "class" / "hwmon" / f"hwmon{number}"
    folder.mkdir(parents=True)
    write(folder, name=chip, **files)
    if device is not None:
        target = sysfs / "devices" / device
        target.mkdir(parents=True, exist_ok=True)
        (folder / "device").symlink_to(target)
    return folder


def write(folder: Path, **files: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")


def unreadable(file: Path) -> None:
    """Also for root, who reads everything else."""
    file.unlink(missing_ok=True)
    file.mkdir()


def renumber(sysfs: Path, old: int, new: int) -> None:
    os.rename(sysfs / f"class/hwmon/hwmon{old}", sysfs / f"class/hwmon/hwmon{new}")


def place(sysfs: Path, **rest: Any) -> Place:
    return Place(sysfs=sysfs, powercap=sysfs / "class" / "powercap", root=sysfs / "root", **({"environ": {}} | rest))


def meter(sysfs: Path, device: str | None = "cpu") -> EnergyMeter:
    return EnergyMeter(device, sysfs=sysfs, environ={"CUDA_VISIBLE_DEVICES": ""})


def joules(reading: Reading) -> dict[str, float | None]:
    return {s.name: s.energy_j for s in reading.sources}


def rows(meter: EnergyMeter) -> dict[str, dict[str, Any]]:
    return {row["source"]: row for row in [*meter.describe(), *meter.absent]}
