"""What a budget is stated in on this machine."""

from __future__ import annotations

from functools import lru_cache

from greenprune.bench.energy.find import find_sources
from greenprune.bench.energy.parts import part_of
from greenprune.bench.energy.sensors.place import Place
from greenprune.bench.energy.source import Missing
from greenprune.bench.suite.suite import CostChoice
from greenprune.methods.cost.kinds import CostKind


def resolve_cost(cost: CostChoice, device: str) -> CostKind:
    """ "auto" means the energy of inference where a sensor measures what `device` draws, else its time.

    A model of the energy of a CPU is its time times an assumed power: a budget in it would be one in time by another name.
    """
    if cost != "auto":
        return cost
    return "energy" if has_sensor(device) else "latency"


@lru_cache
def has_sensor(device: str) -> bool:
    """Whether this machine measures the power of its processors, or for "cuda" of its GPU."""
    found = find_sources(Place.here(device=device))
    try:
        part = "gpu" if device.startswith("cuda") else "cpu"
        return any(
            source.kind != "modelled" and not isinstance(source, Missing) and part_of(source.name) == part
            for source in found.sources
        )
    finally:
        for source in found.sources:
            source.close()
        if found.nvml is not None:
            found.nvml.close()
