"""Files of Linux's sysfs, one value each, and the devices of its hwmon class."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from greenprune.bench.energy.source import SensorError


def read_text(path: Path) -> str:
    """The content of a file without the line's end. Raises SensorError."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError as e:
        raise SensorError(f"{path} cannot be read ({e.strerror})") from None


def read_number(path: Path) -> float:
    """The number that a file holds. Raises SensorError."""
    text = read_text(path)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SensorError(f'{path} does not hold a number (but "{text[:20]}")')
    return value


def optional_text(path: Path) -> str | None:
    """As `read_text`; None where the file is missing, unreadable or empty."""
    try:
        return read_text(path) or None
    except SensorError:
        return None


def optional_number(path: Path) -> float | None:
    """As `read_number`; None where there is no such number."""
    try:
        return read_number(path)
    except SensorError:
        return None


def folders(parent: Path, pattern: str = "*") -> list[Path]:
    """Folders below `parent` in the order of their numbers; none where it is missing or unreadable."""
    try:
        return sorted((p for p in parent.glob(pattern) if p.is_dir()), key=by_number)
    except OSError:
        return []


def by_number(path: Path) -> list[tuple[int, str]]:
    """Sorts "hwmon10" behind "hwmon9"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


@dataclass
class Hwmon:
    """A device of the hwmon class. Its number may change when a driver is loaded again; `device` and `chip` do not."""

    sysfs: Path
    chip: str  # what its file "name" holds
    folder: Path  # such as /sys/class/hwmon/hwmon3
    device: Path | None  # the real folder of the device, such as /sys/devices/pci0000:00/.../0000:03:00.0
    identity: tuple[int, int, int] | None = None  # of its file "name", which no other device has

    @property
    def address(self) -> str:
        """The device's name on its bus, "0000:03:00.0" or "1-0040"; the folder's or the card's where there is none."""
        if self.device is None:
            return self.folder.name
        return self.device.parent.name if self.device.name == "device" else self.device.name

    def number(self, file: str) -> float:
        """The number in one of its files, also after it was numbered anew. Raises SensorError."""
        self._find_again()
        return read_number(self.folder / file)

    def text(self, file: str) -> str | None:
        """The text in one of its files, None where there is none."""
        return optional_text(self.folder / file)

    def _find_again(self) -> None:
        """What had this number may be gone, and another device may have it."""
        if self.identity is not None and _identity(self.folder) == self.identity:
            return
        same = optional_text(self.folder / "name") == self.chip and _device_of(self.folder) == self.device
        if not same:
            others = [other for other in hwmons(self.sysfs, self.chip) if other.device == self.device]
            if self.device is None or not others:
                raise SensorError(f"{self.folder} ({self.chip}) is gone")
            self.folder = others[0].folder
        self.identity = _identity(self.folder)


BELOW_DEVICES = (
    "class/drm/card*/device/hwmon/hwmon*",
    "bus/i2c/drivers/*/*/hwmon/hwmon*",
    "bus/i2c/devices/*/hwmon/hwmon*",
)
"""Where the same folders lie too; looked at where the class shows none, as in a container that sees only a part."""


def hwmons(sysfs: Path, *chips: str) -> list[Hwmon]:
    """The devices of /sys/class/hwmon whose name is one of `chips`, each once, by number."""
    for pattern in ("class/hwmon/hwmon*", *BELOW_DEVICES):
        found: dict[tuple[Path, str], Hwmon] = {}
        for numbered in folders(sysfs, pattern):
            # Drivers of old kernels keep their files one level further down, with the device.
            folder = numbered if (numbered / "name").exists() else numbered / "device"
            chip = optional_text(folder / "name")
            if chip in chips and chip is not None:
                device = _device_of(folder)
                found.setdefault((device or folder, chip), Hwmon(sysfs, chip, folder, device))
        if found:
            return list(found.values())
    return []


def _identity(folder: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(os.path.join(folder, "name"))
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns  # a number of a file that is gone may be given again


def _device_of(folder: Path) -> Path | None:
    if folder.name == "device":
        return folder.resolve()
    link = folder / "device"
    if link.exists():
        return link.resolve()
    return folder.parents[1].resolve() if folder.parents[1].name != "class" else None


def readable_remedy(device: Hwmon, files: str) -> str:
    """How everybody may read `files` of a device, at once and after the next start of the machine."""
    run = f"RUN+=\"/bin/sh -c 'chmod a+r /sys%p/{files}'\""
    rule = f'ACTION=="add", SUBSYSTEM=="hwmon", ATTR{{name}}=="{device.chip}", {run}'
    return f"sudo chmod a+r {device.folder}/{files}; for good, put {rule} into /etc/udev/rules.d/70-energy.rules"


def channels(folder: Path, prefix: str, suffix: str) -> Iterator[int]:
    """The numbers N for which `folder` has a file called prefixNsuffix, in order."""
    pattern = re.compile(rf"{prefix}(\d+){suffix}")
    try:
        names = [p.name for p in folder.iterdir()]
    except OSError:
        return
    yield from sorted(int(m.group(1)) for name in names if (m := pattern.fullmatch(name)))
