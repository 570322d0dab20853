"""Which of several networks nobody would pass over."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """Indices of the points that no other point beats, cheapest first.

    A point is beaten by another one that costs no more and gains no less, and is better in at least one of the two.
    Of points that are equal in both the first one is kept. Points with an unknown (NaN) figure are never on the front.
    """
    known = [i for i in range(len(costs)) if costs[i] == costs[i] and gains[i] == gains[i]]
    front: list[int] = []
    for i in sorted(known, key=lambda i: (costs[i], -gains[i], i)):
        if not front or gains[i] > gains[front[-1]]:
            front.append(i)
    return front
