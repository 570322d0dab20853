"""Several readings as one: of consecutive windows, and of one source."""

from __future__ import annotations

import re
from collections.abc import Sequence

from greenprune.bench.energy.parts import part_of
from greenprune.bench.energy.reading import Reading, SourceReading, merge_cards

SUMMED = ("energy_j", "low_j", "high_j", "sensor_error_j", "idle_j", "idle_uncertainty_j", "other_j")
TOLD = ("basis", "note")

_OF_PARTS = re.compile(r"of (\d+) parts; the first: ")


def add_readings(name: str, readings: Sequence[Reading]) -> Reading:
    """Readings of consecutive windows as one. A source that is invalid in one of them is invalid in the sum."""
    sources = []
    for source in dict.fromkeys(s.name for r in readings for s in r.sources):
        parts = [s for r in readings for s in r.sources if s.name == source]
        missing = "missing in one of the blocks" if len(parts) < len(readings) else None
        sources.append(added(parts, missing, "measured in another way in one of the blocks"))
    warnings = tuple(dict.fromkeys(w for r in readings for w in r.warnings))
    duration_s = sum(r.duration_s for r in readings)
    return Reading(name=name, duration_s=duration_s, sources=tuple(sources), warnings=warnings)


def as_before(before: Reading, now: Reading) -> Reading:
    """`now` with its GPUs called as in `before`, where work goes on on others: in their order, where they are as many of the
    same kinds. A warning says so of each."""
    old, new = ([s for s in reading.sources if part_of(s.name) == "gpu"] for reading in (before, now))
    if {s.name for s in old} == {s.name for s in new} or [s.kind for s in old] != [s.kind for s in new]:
        return now
    called = {theirs.name: ours.name for ours, theirs in zip(old, new, strict=True)}
    sources = (s.model_copy(update={"name": called.get(s.name, s.name)}) for s in now.sources)
    moved = (
        f"{name}: the work went on on {other} after an interruption, and these are the joules of both"
        for other, name in called.items()
        if other != name
    )
    return now.model_copy(update={"sources": tuple(sources), "warnings": (*now.warnings, *moved)})


def added(parts: Sequence[SourceReading], fault: str | None, of_other_kind: str) -> SourceReading:
    """Readings of one source as one. It is invalid as one of them is, by the `fault`, or where their kinds differ."""
    first = parts[0]
    reason = next((part.reason or "invalid" for part in parts if not part.valid), fault)
    if reason is None and any(part.kind != first.kind for part in parts):
        reason = of_other_kind
    card = merge_cards(part.card for part in parts)
    if reason is not None:
        nothing = dict.fromkeys((*SUMMED, *TOLD))
        return first.model_copy(update={**nothing, "card": card, "valid": False, "reason": reason})
    total = {key: _sum([getattr(part, key) for part in parts]) for key in SUMMED}
    told = {key: _of_all([getattr(part, key) for part in parts]) for key in TOLD}
    scope = first.scope if all(part.scope == first.scope for part in parts) else None
    return first.model_copy(update={**total, **told, "card": card, "scope": scope})


def _sum(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) if len(known) == len(values) else None


def _of_all(texts: Sequence[str | None]) -> str | None:
    """What all parts say; where they differ, what the first says that says something, and of how many it is one.

    Parts may be sums themselves: what theirs say is of one window too.
    """
    if len(texts) == 1:
        return texts[0]
    found = [(text, _OF_PARTS.match(text or "")) for text in texts]
    singles = [text[match.end() :] if text and match else text for text, match in found]
    count = sum(int(match.group(1)) if match else 1 for _, match in found)
    if count == len(texts) and len(set(texts)) == 1:
        return texts[0]
    first = next((text for text in singles if text), None)
    return None if first is None else f"of {count} parts; the first: {first}"
