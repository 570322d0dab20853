"""Which cores of the processor belong together, as Linux tells it, and how they are shared out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

SYSFS = Path("/sys")


def cpulist(text: str) -> tuple[int, ...]:
    """The cores of "0-3,8-11", as the kernel writes lists of cores; none of what cannot be read so."""
    found: set[int] = set()
    for part in text.strip().split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if match is None:
            return ()
        first, last = int(match.group(1)), int(match.group(2) or match.group(1))
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def own_cores() -> tuple[int, ...] | None:
    """The cores that this process may use; None where the system cannot keep a process to some of them."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None


def near_device(bus_id: str, sysfs: Path = SYSFS) -> tuple[int, ...]:
    """The cores next to a device of the PCI bus; none where Linux does not tell.

    Args:
        bus_id: "00000000:3B:00.0", as NVML writes it, with a domain of eight digits where Linux has four.
    """
    domain, _, rest = bus_id.lower().partition(":")
    place = sysfs / "bus" / "pci" / "devices" / f"{domain[-4:].zfill(4)}:{rest}"
    try:
        return cpulist((place / "local_cpulist").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return ()


def by_physical_core(cores: Sequence[int], sysfs: Path = SYSFS) -> list[tuple[int, ...]]:
    """`cores` in groups of those that are threads of one physical core; each by itself where Linux does not tell."""
    left, groups = set(cores), []
    for core in sorted(cores):
        if core not in left:
            continue
        place = sysfs / "devices" / "system" / "cpu" / f"cpu{core}" / "topology" / "thread_siblings_list"
        try:
            threads = cpulist(place.read_text(encoding="ascii"))
        except (OSError, ValueError):
            threads = ()
        group = tuple(sorted(({core} | set(threads)) & left))
        left -= set(group)
        groups.append(group)
    return groups


def split(cores: Sequence[int], parts: int, sysfs: Path = SYSFS) -> list[tuple[int, ...]]:
    """`cores` in `parts` of equal size, none of which shares a physical core with another where there are enough of them.

    Cores that do not divide evenly are left over.

    Raises:
        ValueError: fewer cores than parts.
    """
    if not 1 <= parts <= len(cores):
        raise ValueError(f"{len(cores)} cores cannot be split into {parts}")
    groups = by_physical_core(cores, sysfs)
    if len(groups) < parts or len({len(group) for group in groups}) > 1:
        groups = [(core,) for core in sorted(cores)]
    each = len(groups) // parts
    return [_flat(groups[i * each : (i + 1) * each]) for i in range(parts)]


def _flat(groups: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(sorted(core for group in groups for core in group))
