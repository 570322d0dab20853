"""Readings of several windows as one."""

from __future__ import annotations

from collections.abc import Sequence

from greenprune.bench.energy.reading import Reading, SourceReading, merge_cards

SUMMED = ("energy_j", "low_j", "high_j", "sensor_error_j", "idle_j", "idle_uncertainty_j")


def add_readings(name: str, readings: Sequence[Reading]) -> Reading:
    """Readings of consecutive windows as one. A source that is invalid in one of them is invalid in the sum."""
    sources = []
    for first in readings[0].sources:
        parts = [next((s for s in r.sources if s.name == first.name), None) for r in readings]
        bad = next((s for s in parts if s is None or not s.valid), first)
        if any(s is not None and s.kind != first.kind for s in parts):
            bad = first.model_copy(update={"valid": False, "reason": "measured in another way in one of the blocks"})
        if bad is None or not bad.valid:
            reason = "missing in one of the blocks" if bad is None else bad.reason
            nothing = dict.fromkeys(SUMMED)
            sources.append(first.model_copy(update={**nothing, "valid": False, "reason": reason}))
            continue
        valid = [s for s in parts if s is not None]
        total = {key: _sum([getattr(s, key) for s in valid]) for key in SUMMED}
        card = merge_cards(s.card for s in valid)
        sources.append(SourceReading.model_validate(first.model_dump() | total | {"card": card}))
    warnings = tuple(dict.fromkeys(w for r in readings for w in r.warnings))
    duration_s = sum(r.duration_s for r in readings)
    return Reading(name=name, duration_s=duration_s, sources=tuple(sources), warnings=warnings)


def _sum(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) if len(known) == len(values) else None
