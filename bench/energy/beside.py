"""Readings of processes that worked at the same time, each of which read what the others did not, as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from greenprune.bench.energy.parts import on_node
from greenprune.bench.energy.reading import Reading, SourceReading, merge_cards
from greenprune.bench.energy.total import SUMMED


def beside(readings: Sequence[tuple[str, Reading]]) -> Reading:
    """Readings of one stretch of time, each with the name of its node ("": there is one node), as one.

    What several processes read under one name and of one kind is added up: the model of a process's own tree. A sensor only
    one of a node reads. A source that is invalid in one of them is invalid in the sum. Name, duration and warnings are those
    of the first.
    """
    found: dict[str, list[SourceReading]] = {}
    for node, reading in readings:
        for source in reading.sources:
            name = on_node(source.name, node)
            found.setdefault(name, []).append(source.model_copy(update={"name": name}))
    first = readings[0][1]
    return first.model_copy(update={"sources": tuple(_added(parts) for parts in found.values()), "reporter": None})


def _added(parts: Sequence[SourceReading]) -> SourceReading:
    first = parts[0]
    if len(parts) == 1:
        return first
    bad = next((part for part in parts if not part.valid), None)
    if bad is None and any(part.kind != first.kind for part in parts):
        bad = first.model_copy(update={"reason": "measured in another way by one of the ranks"})
    if bad is not None:
        return first.model_copy(update={**dict.fromkeys(SUMMED), "valid": False, "reason": bad.reason})
    total = {key: _sum(getattr(part, key) for part in parts) for key in SUMMED}
    return first.model_copy(update={**total, "card": merge_cards(part.card for part in parts)})


def _sum(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if any(value is None for value in known) else sum(value for value in known if value is not None)
