"""What budgets a network can meet with its units, said before anything is spent."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from greenprune.methods.budget.limits import lowest
from greenprune.methods.budget.select import BudgetError, floor, nearest
from greenprune.methods.cost.costs import Cost, MacCost
from greenprune.methods.cost.kinds import COST_NAMES
from greenprune.methods.structure.units import Structure
from torch import Tensor

DRAWS = 3
"""Of random rankings that are tried, besides an even one, before a budget counts as out of reach."""

_BUSY = "; if other programs ran while that was measured, delete the calibration, and it is measured anew"


class CoarseBudget(UserWarning):
    """The units of a network are so coarse that a budget cannot be met within its tolerance, only undershot."""


@dataclass(frozen=True)
class Nearest:
    """The reachable costs around a budget that cannot be met within its tolerance, as fractions of the dense cost.

    Attributes:
        below: the highest that was found at or below the budget; what a search aims at.
        above: the lowest that was found above it.
    """

    below: float
    above: float


def check_budget(
    structure: Structure,
    keep: float,
    tolerance: float,
    removable: Tensor | None = None,
    cost: Cost | None = None,
    round_to: int = 1,
) -> Nearest | None:
    """Whether `keep` can be met within `tolerance` (None), and if not what comes nearest; that is warned of as well.

    Args:
        removable: (U,) bool, the units that may be removed; default all.
        cost: what counts; default MACs.
        round_to: channels are left in multiples of it.

    Raises:
        BudgetError: removing all that may be removed would still cost more than `keep`; names the floor.
    """
    cost = cost or MacCost(structure)
    check_floor(structure, keep, removable, cost, round_to)
    found = _nearest(structure, keep, tolerance, removable, cost, round_to)
    if found is not None:
        warn(found, keep, tolerance, cost)
    return found


def check_floor(structure: Structure, keep: float, removable: Tensor | None, cost: Cost, round_to: int) -> None:
    """Raise BudgetError where removing all that may be removed would still cost more than `keep`; it names the floor."""
    least = floor(structure, removable, cost, round_to)
    if keep < least:
        raise BudgetError(
            f"keep = {keep:g} lies below the floor of this network, {apart(least, keep)} of the dense {COST_NAMES[cost.kind]}"
            f"{f' ({cost.where})' if cost.where else ''}: what it costs when everything is removed that can be. "
            f"Allowed is {_upwards(least)} to 1{_BUSY if cost.where else ''}"
        )


def _upwards(share: float) -> str:
    """With three digits, never less than it is: what is asked for next shall not fail by a rounding."""
    return f"{min(1.0, math.ceil(share * 1000) / 1000):g}"


def warn(found: Nearest, keep: float, tolerance: float, cost: Cost) -> None:
    """Say (a `CoarseBudget`) that `keep` can only be undershot."""
    warnings.warn(
        f"keep = {keep:g} cannot be met within {tolerance:g}: the units of this network are too coarse. The nearest "
        f"that was found costs {apart(found.below, keep)} of the dense {COST_NAMES[cost.kind]}, which is aimed at; the next "
        f"above costs {apart(found.above, keep)}",
        CoarseBudget,
        stacklevel=5,
    )


def _nearest(
    structure: Structure, keep: float, tolerance: float, removable: Tensor | None, cost: Cost, round_to: int
) -> Nearest | None:
    coarse = round_to > 1 or cost.staircase
    channels = structure.channel_units if removable is None else structure.channel_units & removable.cpu()
    if not coarse and channels.any():
        # Closing a channel saves most while everything is open, so no step of the way down is longer than the longest.
        longest = float(cost.prices().cpu()[channels].max())
        if longest < tolerance and floor(structure, channels, cost) <= keep:
            return None
    below, above = 0.0, 1.0
    generator = torch.Generator().manual_seed(0)
    for draw in range(1 + DRAWS):
        scores = torch.rand(structure.units, generator=generator) if draw else _even(structure)
        _, reached, over = nearest(structure, scores, keep, tolerance, removable, cost, round_to)
        if lowest(keep, tolerance, coarse=coarse) <= reached <= keep:
            return None
        if reached <= keep:
            below = max(below, reached)
        above = min(above, over if over is not None else 1.0, reached if reached > keep else 1.0)
    return Nearest(below, above)


def _even(structure: Structure) -> Tensor:
    """(U,) scores under which any threshold cuts the same share of all groups, and branches go last."""
    scores = torch.ones(structure.units)
    for group in structure.groups:
        scores[group.units] = 1.0 - (torch.arange(group.width) + 0.5) / group.width
    return scores


def apart(value: float, other: float) -> str:
    """`value` with as many digits as it takes to tell it from `other`, at least three."""
    for digits in range(3, 12):
        text = f"{value:.{digits}f}"
        if value == other or (abs(float(text) - other) > 0.3 * abs(value - other) and float(text) != other):
            return text
    return repr(value)
