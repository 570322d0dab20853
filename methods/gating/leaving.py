"""What closed layers leave where the budget is of time or joules: for each layer what its measured costs speak for.

A closed layer saves what it cost, less what its remnant costs, and loses what it was worth, less what its remnant is worth.
It leaves that of which it loses least for what it saves. The layer's own worth, which nobody knows before the search, is
the same in all of these quotients: the choice needs none.

A depthwise convolution often takes as long as the full one. There, for a single image above all, layers are removed.
"""

from __future__ import annotations

from collections.abc import Mapping

from greenprune.methods.budget.choice import Choice
from greenprune.methods.cost.measured_cost import CostTable, TableCost, is_priced
from greenprune.methods.gating.options import GatingOptions
from greenprune.methods.structure.remnant import RemnantKind, with_remnants
from greenprune.methods.structure.units import Structure
from torch import nn

LEFT: dict[str, tuple[RemnantKind, ...]] = {"thin": ("thin", "separable"), "separable": ("separable",), "removed": ()}
"""By `GatingOptions.closed_layers`, what closed layers may leave at most."""

WORTHS: Mapping[RemnantKind, float] = {"thin": 0.2, "separable": 0.16}
"""What a remnant is taken to be worth of its layer when it is weighed against the time that it takes. Estimates, and less than
`GatingOptions.remnant_worth`, which orders gates: half of the time with the remnants that a worth of 0.5 speaks for loses more
than with none (docs/explanation/tried.md)."""


def chosen(structure: Structure, model: nn.Module, table: CostTable, options: GatingOptions, most: float) -> Structure:
    """`structure` with the remnants that its branches leave.

    Args:
        structure: of `model`, which is dense.
        most: what all remnants together may cost, as a fraction of the dense network; those that cost most for what they
            are worth are left out until they do.
    """
    gone = savings(structure, table)
    saved: dict[int, dict[RemnantKind, float]] = {unit: {} for unit in gone}
    for kind in LEFT[options.closed_layers]:
        could = with_remnants(structure, model, kind)
        priced = {b.unit: kind for b in could.branches if b.remnant is not None and is_priced(b.remnant, table)}
        found = savings(with_remnants(structure, model, priced), table)
        for unit in priced:
            saved[unit][kind] = found[unit]
    kinds = {unit: best(gone[unit], saved[unit], WORTHS) for unit in gone}
    left = {unit: kind for unit, kind in kinds.items() if kind is not None}
    costs = {unit: gone[unit] - saved[unit][kind] for unit, kind in left.items()}

    def dearness(unit: int) -> float:
        return costs[unit] / (gone[unit] * WORTHS[left[unit]])

    for unit in sorted(left, key=dearness, reverse=True):
        if sum(costs[u] for u in left) > most:
            del left[unit]
    return with_remnants(structure, model, left)


def best(gone: float, left: Mapping[RemnantKind, float], worths: Mapping[RemnantKind, float]) -> RemnantKind | None:
    """What a layer leaves when it closes: what loses least for each second or joule that it saves; None: nothing.

    Args:
        gone: what is saved when it is removed.
        left: what is saved when it leaves such a remnant.
        worths: of a remnant, as a fraction of the layer's, in [0, 1).
    """
    if gone <= 0:
        return None
    losses: dict[RemnantKind | None, float] = {None: 1.0 / gone}
    losses |= {kind: (1.0 - worths[kind]) / saved for kind, saved in left.items() if saved > 0}
    return min(losses, key=losses.__getitem__)


def savings(structure: Structure, table: CostTable) -> dict[int, float]:
    """By the unit of each branch, what its closing saves while all else is open, as a fraction of the dense network."""
    choice = Choice(structure, TableCost(structure, table))
    dense = choice.cost()
    return {b.unit: dense - choice.cost_without(b.unit) for b in structure.branches}
