"""Power at this moment, for display."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from greenprune.bench.energy.parts import adds_up
from greenprune.bench.energy.source import Mark, Segment, Source, fault

POWER_SPAN_S = 2.0  # over which power is averaged: 20 periods of a common GPU counter


class LivePower:
    """Power over the last seconds, of all sensors together, or modelled where there is none."""

    def __init__(self, marks: Sequence[Mark] | None) -> None:
        """`marks`: of every source, just read; None: read nothing yet."""
        self._last: tuple[float, Sequence[Mark] | None, float | None] = (time.perf_counter(), marks, None)

    def power_w(self, sources: Sequence[Source], read: Callable[[], Sequence[Mark]]) -> float | None:
        """`read`: new marks of these sources. None in the first seconds, and when no source answers."""
        last_s, last_marks, power_w = self._last
        now_s = time.perf_counter()
        if now_s - last_s < POWER_SPAN_S:
            return power_w
        marks = read()
        power_w = None if last_marks is None else _power_between(sources, last_marks, marks)
        self._last = (now_s, marks, power_w)
        return power_w


def _power_between(sources: Sequence[Source], before: Sequence[Mark], after: Sequence[Mark]) -> float | None:
    power_w: dict[bool, float] = {}  # by whether it is modelled
    for source, start, end in zip(sources, before, after, strict=True):
        segment = Segment(start, end)
        if adds_up(source.name) and fault([segment]) is None and segment.duration_s > 0:
            modelled = source.kind == "modelled"
            power_w[modelled] = power_w.get(modelled, 0.0) + segment.energy_j / segment.duration_s
    return power_w.get(False, power_w.get(True))
