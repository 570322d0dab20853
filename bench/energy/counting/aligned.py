"""The moment at which counters move: where an aligned window begins and ends."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Sequence

from greenprune.bench.energy.source import Mark

LONGEST_TICK_S = 2.5  # an aligned window waits no longer for a counter that has become slow
TICK_POLL_S = 0.0005  # how closely an aligned window watches for the counter to move


def marks_at_tick(marks: Sequence[Mark], counters: Collection[int], read: Callable[[int], Mark]) -> list[Mark]:
    """Marks just after each counter has moved; as they are where one does not move in time.

    Args:
        marks: of every source, just read.
        counters: the places of those sources that count.
        read: a new mark of the source at a place.
    """
    found, latest = list(marks), list(marks)
    waiting = {place for place in counters if marks[place].stale_s > 2 * TICK_POLL_S}
    begun_s = time.perf_counter()
    while waiting and time.perf_counter() < begun_s + max(_patience_s(found[i], latest[i]) for i in waiting):
        time.sleep(TICK_POLL_S)
        for i in list(waiting):
            now = read(i)
            if now.total_j != latest[i].total_j:  # moved, or failed: NaN differs from everything
                found[i] = dataclasses.replace(now, stale_s=now.time_s - latest[i].time_s)
                waiting.discard(i)
            latest[i] = now
    for i in waiting:  # in vain; the last look knows better how old the total is
        found[i] = latest[i]
    return found


def _patience_s(first: Mark, latest: Mark) -> float:
    """How long to wait for a source to move: longer for one that turns out to be slower than it was."""
    expected_s = 3 * (first.stale_s if first.tick_s is None else first.tick_s)
    return max(expected_s, min(3 * latest.stale_s, LONGEST_TICK_S)) if first.tick_s else expected_s
