"""Coming close to a budget from below, where units are so coarse that closing them one by one jumps over it."""

from __future__ import annotations

from collections.abc import Iterator

from greenprune.methods.budget.choice import Choice
from greenprune.methods.structure.units import Structure
from torch import Tensor

MOST_EXCHANGES = 64
MOST_QUESTIONS = 20_000
"""Costs that are computed in search of an exchange of one unit for many."""


def approach(
    choice: Choice, structure: Structure, scores: Tensor, keep: float, least: float, removable: Tensor | None
) -> float | None:
    """Exchange closed units for open ones, in place, as long as that brings the cost closer to `keep` from below.

    Of each group of channels the best closed one comes back and the worst open one goes: within a group they cost alike.

    Args:
        choice: that costs at most `keep`.
        scores: (U,); what is at -infinity is not there any more.
        keep, least: of the dense cost; from `least` on it is close enough.
        removable: (U,) bool; default all.

    Returns:
        the lowest cost above `keep` that was seen on the way, or None.
    """
    above: float | None = None
    for _ in range(MOST_EXCHANGES):
        now = choice.cost()
        if now >= least:
            break
        best: tuple[float, int, int | None] | None = None
        for back in _first_of_groups(structure, scores, [u for u in _units(choice) if not choice.open[u]], last=True):
            if scores[back] == -float("inf"):
                continue
            choice.reopen(back)
            goers = [u for u in _units(choice) if u != back and (removable is None or removable[u])]
            for gone in (None, *_first_of_groups(structure, scores, [u for u in goers if choice.closable(u)])):
                cost = choice.cost() if gone is None else choice.cost_without(gone)
                if cost > keep:
                    above = cost if above is None else min(above, cost)
                elif cost > now and (best is None or cost > best[0]):
                    best = cost, back, gone
            choice.close(back)
        if best is None:
            if now < least:
                _exchange_for_many(choice, structure, scores, keep, least, removable)
            break
        choice.reopen(best[1])
        if best[2] is not None:
            choice.close(best[2])
    return above


def _exchange_for_many(
    choice: Choice, structure: Structure, scores: Tensor, keep: float, least: float, removable: Tensor | None
) -> None:
    """Let one dear unit come back and as many cheap ones go as it takes to end in [least, keep], if any does."""
    ranking = scores.argsort(stable=True).tolist()
    before = choice.open.copy()
    asked = 0
    for back in _first_of_groups(structure, scores, [u for u in _units(choice) if not choice.open[u]], last=True):
        if scores[back] == -float("inf") or asked > MOST_QUESTIONS:
            continue
        choice.reopen(back)
        for unit in ranking:
            if choice.cost() <= keep:
                break
            if unit != back and (removable is None or removable[unit]) and choice.closable(unit):
                asked += 1
                if choice.cost_without(unit) >= least:
                    choice.close(unit)
        if least <= choice.cost() <= keep:
            return
        for unit in (before != choice.open).nonzero()[0].tolist():
            (choice.reopen if before[unit] else choice.close)(unit)


def _units(choice: Choice) -> range:
    return range(len(choice.open))


def _first_of_groups(structure: Structure, scores: Tensor, units: list[int], *, last: bool = False) -> Iterator[int]:
    """Of each group the unit among `units` with the lowest score (`last`: the highest), and every branch among them."""
    among, chosen = set(units), max if last else min
    for group in structure.groups:
        own = [u for u in range(group.start, group.start + group.width) if u in among]
        if own:
            yield chosen(own, key=lambda u: float(scores[u]))
    yield from (b.unit for b in structure.branches if b.unit in among)
