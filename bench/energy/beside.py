"""Readings of processes that worked at the same time, each of which read what the others did not, as one."""

from __future__ import annotations

from collections.abc import Sequence

from greenprune.bench.energy.parts import on_node
from greenprune.bench.energy.reading import Reading, SourceReading
from greenprune.bench.energy.total import added

OTHER_KIND = "measured in another way by one of the ranks"


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
    return first.model_copy(
        update={"sources": tuple(added(parts, None, OTHER_KIND) for parts in found.values()), "reporter": None}
    )
