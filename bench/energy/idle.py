"""Idle power: what a source draws when nothing is asked of it, and what of a reading lies above it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from greenprune.bench.energy.reading import Reading, SourceReading


@dataclass(frozen=True)
class IdlePower:
    """Mean power of an idle source."""

    power_w: float
    uncertainty_w: float = 0.0


def idle_powers(resting: Reading) -> dict[str, IdlePower]:
    """Idle power of every sensor that was read while the machine rested. Models have none: they count work alone."""
    if resting.duration_s <= 0:
        return {}
    return {
        source.name: IdlePower(source.energy_j / resting.duration_s, (source.uncertainty_j or 0.0) / resting.duration_s)
        for source in resting.sources
        if source.energy_j is not None and source.kind != "modelled"
    }


def with_idle(reading: SourceReading, duration_s: float, idle: Mapping[str, IdlePower]) -> SourceReading:
    """`reading` of `duration_s` with its idle part, where that is known: net = gross - idle power x duration."""
    power = idle.get(reading.name)
    if power is None or reading.energy_j is None or reading.kind == "modelled":
        return reading
    idle_part = {
        "idle_j": power.power_w * duration_s,
        "idle_uncertainty_j": power.uncertainty_w * duration_s,
    }
    return reading.model_copy(update=idle_part)
