"""All sources of energy of a machine: the one place that knows every kind, their order, and which stand in for one another.

A sensor is never added to what contains it. Of two ways to the same counter one is used: RAPL by powercap, else by
perf_event_open. What no sensor counts is modelled: cores, memory. What may be added up says `greenprune.bench.energy.parts`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from greenprune.bench.energy.node.shared import REMEDY, part_of_node, without_node
from greenprune.bench.energy.nvml.gpus import NVML, find_gpus
from greenprune.bench.energy.nvml.library import Nvml
from greenprune.bench.energy.parts import JETSON, measures_cpu, measures_memory, part_of
from greenprune.bench.energy.rapl.domains import find_rapl
from greenprune.bench.energy.sensors.place import Found, Place, row
from greenprune.bench.energy.source import Missing, Source
from greenprune.bench.energy.sources import amd, apple, intel, jetson, power_meter, psys, rapl_perf
from greenprune.bench.energy.sources.modelled import CpuSource, RamSource
from greenprune.bench.energy.usage.processes import UsageSource
from greenprune.bench.energy.usage.processors import this_core_power


class Sources(NamedTuple):
    """What was found."""

    nvml: Nvml | None  # to be closed after the sources
    sources: list[Source]
    unusable: list[dict[str, Any]]  # rows of `EnergyMeter.describe`: it is there and cannot be used
    absent: list[dict[str, Any]]  # rows of `greenprune doctor`: this machine has none


def find_sources(place: Place, usage: UsageSource | None = None) -> Sources:
    """Sources in the order in which they are shown: GPUs, the CPU with its memory, whole machines, models.

    `usage`: whose CPU time and memory the models take; this process's and its descendants' if None.

    Raises:
        ValueError: the device is neither None nor "cpu" nor "cuda" nor "cuda:<number>".
    """
    nvml, nvidia, nvidia_rows = find_gpus(place.device, place.gpu_uuids, place.environ, place.job_gpus)
    others = [look(place) for look in PARTS]
    cpu = _rapl(place)
    machines = [look(place) for look in MACHINES]
    if nvidia and all(isinstance(source, Missing) for source in nvidia):
        names = [source.name for look in others for source in look.sources]
        no_card = nvidia[0].name == NVML
        # NVML may know the GPU of a Jetson and tell nothing of it: the rails do. Where NVML knows none, "cuda" is another
        # maker's GPU, whether that can be read or not.
        instead = (JETSON, f"{amd.NAME}:") if no_card else (JETSON,)
        if any(name.startswith(instead) for name in names):
            nvidia_rows, nvidia = [*nvidia_rows, *(source.describe() for source in nvidia)], []
        elif no_card and place.device is not None and others[0].unusable:
            told = others[0].unusable[0]
            nvidia_rows, nvidia = [nvidia[0].describe()], [Missing(amd.NAME, told["reason"], told["remedy"])]
            others[0] = Found()
    found = [Found(nvidia, nvidia_rows), *others, cpu, *machines]
    part = part_of_node(place.environ)
    if part is not None:
        found = [without_node(look, str(part), REMEDY) for look in found]
    elif place.shared is not None:
        found = [without_node(look, place.shared) for look in found]
    whole = [name for look in others for name in look.whole_sockets]
    if whole:
        found = [_without_parts_of(whole, look) for look in found]
    sources = list({source.name: source for look in found for source in look.sources}.values())
    names = [source.name for source in sources]
    if not whole and not any(map(measures_cpu, names)):
        sources.append(CpuSource(this_core_power(), usage))
    if not whole and not any(map(measures_memory, names)):
        sources.append(RamSource(usage))
    unusable = [told for look in found for told in look.unusable]
    return Sources(nvml, sources, unusable, [told for look in found for told in look.absent])


PARTS: tuple[Callable[[Place], Found], ...] = (amd.find, intel.find, jetson.find, apple.find)
"""Every kind but NVIDIA's GPUs and RAPL, which have ways of their own; AMD's, which "cuda" may mean too, are first."""

MACHINES: tuple[Callable[[Place], Found], ...] = (psys.find, power_meter.find)
"""What covers the whole machine, and power meters of parts of it."""


def _without_parts_of(sockets: list[str], found: Found) -> Found:
    """What was found, without the sensors of cores and memory that the sources called `sockets` contain."""
    parts = [source for source in found.sources if part_of(source.name) in ("cpu", "ram")]
    for source in parts:
        source.close()
    rows = [row(source.name, source.kind, f"part of {', '.join(sockets)}") for source in parts]
    return Found([s for s in found.sources if s not in parts], [*found.unusable, *rows], found.absent)


def _rapl(place: Place) -> Found:
    """By powercap; where that cannot be read, by perf_event_open; where neither can, both reasons."""
    sources, rows = find_rapl(place.powercap)
    if sources:
        return Found(sources, rows)
    by_perf = rapl_perf.find(place)
    if by_perf.sources:
        return Found(by_perf.sources, absent=rows)
    return Found(unusable=[*rows, *by_perf.unusable], absent=by_perf.absent)
