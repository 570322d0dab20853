"""Intel's discrete GPUs (Arc, Data Center GPU Flex and Max): the drivers xe and i915 show the card's energy counter.

Linux, Documentation/ABI/testing/sysfs-driver-intel-xe-hwmon (energy1_input: the card, energy2_input: the package, which is
part of it; energy<N>_label "card", "pkg") and sysfs-driver-intel-i915-hwmon (chip "i915": energy1_input of the device;
chips "i915_gt<N>": of a tile, part of it). Both are in µJ, readable by everybody, and 63 bits wide: the driver adds up the
card's own 32 bits at every read, so they must be read before those are full, 262 kJ. Integrated GPUs have none: they are
part of the processor's package.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from greenprune.bench.energy.counting.ticks import probe_period_s
from greenprune.bench.energy.sensors.counter import CounterSource
from greenprune.bench.energy.sensors.place import IN_CONTAINER, Found, Place, absent, row
from greenprune.bench.energy.sensors.sysfs import (
    Hwmon,
    channels,
    folders,
    hwmons,
    optional_number,
    optional_text,
    readable_remedy,
)
from greenprune.bench.energy.source import SensorError, Source

VENDOR = "0x8086"
DRIVER_J = 2**18  # 32 bits of 2^-14 J, the driver's own example
MAX_POWER_W = 5_000.0
PROBE_S = 0.3  # for the counter to move three times
ASSUMED_PERIOD_S = 0.1
RESOLUTION_J = 2.0**-14
NAME = "intel-gpu"
NO_HWMON = "a discrete card needs Linux 6.2 (i915) or 6.8 (xe) with CONFIG_HWMON; RAPL's package has the integrated"


def find(place: Place) -> Found:
    """Every card as a source. Not for a device of CUDA's, and not for the CPU."""
    if place.device is not None or place.gpu_uuids:
        return absent(NAME, "measured", "not used: another device was asked for")
    chips = _one_per_card(hwmons(place.sysfs, "xe", "i915", *(f"i915_gt{n}" for n in range(8))))
    sources: list[Source] = []
    unusable = []
    for chip in chips:
        tile = chip.chip.removeprefix("i915_") if chip.chip.startswith("i915_gt") else ""
        name = f"{NAME}:{chip.address}{'-' if tile else ''}{tile}"
        file = _file(chip)
        if file is None:
            unusable.append(row(name, "measured", f"{chip.folder} has no energy counter", NO_HWMON))
            continue
        try:
            sources.append(_open(name, chip, file))
        except SensorError as e:
            unusable.append(row(name, "measured", str(e), readable_remedy(chip, file)))
    if chips:
        return Found(sources, unusable)
    cards = _cards(place.sysfs)
    if cards:
        reason = f"the Intel GPU {', '.join(cards)} shows no energy counter"
        return absent(NAME, "measured", reason, IN_CONTAINER if place.in_container else NO_HWMON)
    return absent(NAME, "measured", "no Intel GPU")


def _one_per_card(chips: list[Hwmon]) -> list[Hwmon]:
    """Without the tiles of a card that has a counter of its own."""
    tiles = [chip for chip in chips if chip.chip.startswith("i915_gt") and _file(chip)]
    cards = [chip for chip in chips if not chip.chip.startswith("i915_gt")]
    counted = {chip.device for chip in cards if _file(chip)}
    tiles = [tile for tile in tiles if tile.device not in counted]
    tiled = {tile.device for tile in tiles}
    return [card for card in cards if _file(card) or card.device not in tiled] + tiles


def _file(chip: Hwmon) -> str | None:
    """The widest of a chip's counters: the card, else the package."""
    numbers = list(channels(chip.folder, "energy", "_input"))
    labels = {chip.text(f"energy{n}_label"): n for n in numbers}
    number = labels.get("card", labels.get("pkg", numbers[0] if numbers else None))
    if number is not None and 1 in numbers and "card" not in labels and chip.text("energy1_label") is None:
        number = 1  # without labels: by the kernel's description
    return None if number is None else f"energy{number}_input"


def _open(name: str, chip: Hwmon, file: str) -> Source:
    """Raises SensorError."""
    read_j = _joules(chip, file)
    limit_uw = optional_number(chip.folder / f"power{file[6]}_max")
    # A card that sleeps does not count: its period is then assumed.
    period_s = probe_period_s(read_j, limit_s=PROBE_S) or ASSUMED_PERIOD_S
    covered = chip.text(file.replace("_input", "_label")) or "card"
    about = f"Intel GPU {chip.address} ({chip.chip}), {'the package' if covered == 'pkg' else 'the whole card'}"
    return CounterSource(
        name,
        read_j,
        period_s=period_s,
        max_power_w=MAX_POWER_W,
        limit_w=limit_uw / 1e6 if limit_uw else None,
        poll_interval_s=min(1.0, DRIVER_J / MAX_POWER_W / 2),
        detail=about,
        note=f"{about}, energy counter, all processes",
        resolution_j=RESOLUTION_J,
    )


def _joules(chip: Hwmon, file: str) -> Callable[[], float]:
    return lambda: chip.number(file) / 1e6


def _cards(sysfs: Path) -> list[str]:
    """Names of Intel's cards under /sys/class/drm."""
    found = [p for p in folders(sysfs / "class" / "drm", "card*") if re.fullmatch(r"card\d+", p.name)]
    return [p.name for p in found if optional_text(p / "device" / "vendor") == VENDOR]
