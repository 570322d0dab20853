"""Meeting a budget: which units to keep so that the network costs what was asked for.

`select` closes units one by one in ascending order of score, and reopens what still fits at the end. Where that makes no
sense, because only whole steps of the width save time (`costs.Cost.steps`) or because the hardware wants multiples of 8 or
16 (`round_to`), `budget_steps` closes bundles of channels.
"""

from __future__ import annotations

from collections import deque

import torch
from greenprune.methods.budget import steps as budget_steps
from greenprune.methods.budget.approach import approach
from greenprune.methods.budget.choice import Choice
from greenprune.methods.budget.limits import lowest
from greenprune.methods.budget.steps import Per
from greenprune.methods.cost.costs import Cost, MacCost, ParamCost, ProductCost
from greenprune.methods.cost.kinds import COST_NAMES, MEASURED, CostKind
from greenprune.methods.cost.measured_cost import CostTable, TableCost
from greenprune.methods.structure.units import Structure
from torch import Tensor, nn

__all__ = [
    "BudgetError", "Cost", "MacCost", "ParamCost", "ProductCost", "floor", "make_cost", "nearest", "select",
]  # fmt: skip


class BudgetError(ValueError):
    """The budget lies below what this network can be brought to; the message states that floor."""


def make_cost(
    kind: CostKind,
    structure: Structure,
    model: nn.Module,
    table: CostTable | None = None,
    device: torch.device | str = "cpu",
    reference: float | None = None,
) -> Cost:
    """The cost of this kind.

    Args:
        structure: of `model` as it is.
        table: measured on the target device; for latency and energy.
        reference: cost of the dense network, where `model` is a partly cut one, in MACs, parameters, s or J; default
            that of `model` (of the network that was calibrated).

    Raises:
        ValueError: `kind` is unknown, or there is no table of this kind.
    """
    check_table(kind, table)
    if kind == "macs":
        return MacCost(structure, device, reference)
    if kind == "params":
        return ParamCost(structure, model, device, reference)
    assert table is not None
    return TableCost(structure, table, device, reference)


def check_table(kind: CostKind, table: CostTable | None) -> None:
    """Raise ValueError unless `kind` is known and, where it is measured, `table` is one of it."""
    if kind not in COST_NAMES:
        raise ValueError(f"cost = {kind!r}: allowed are {', '.join(COST_NAMES)}")
    if kind in MEASURED and (table is None or table.kind != kind):
        given = "there is none" if table is None else f"this one is of {table.kind}"
        raise ValueError(f"cost = {kind!r}: needs a table of it from greenprune.methods.calibrate, and {given}")


def floor(structure: Structure, removable: Tensor | None = None, cost: Cost | None = None, round_to: int = 1) -> float:
    """The smallest fraction of the dense cost that removal can reach: every branch gone, one channel left per group.

    Args:
        removable: (U,) bool, the units that may be removed; default all.
        cost: what counts; default MACs.
        round_to: channels left per group, or all of a narrower group.
    """
    openness = torch.zeros(structure.units) if removable is None else (~removable).float()
    for group in structure.groups:
        closed = (openness[group.units] == 0).nonzero().flatten()
        missing = min(round_to, group.width) - (group.width - len(closed))
        openness[group.start + closed[: max(0, missing)]] = 1.0
    choice = Choice(structure, cost or MacCost(structure))
    for unit in (openness == 0).nonzero().flatten().tolist():
        choice.close(unit)
    return choice.cost()


def select(
    structure: Structure,
    scores: Tensor,
    keep: float,
    tolerance: float,
    removable: Tensor | None = None,
    cost: Cost | None = None,
    round_to: int = 1,
    per: Per = "channel",
) -> Tensor:
    """The units to keep so that the cost lies in [keep - tolerance, keep]: the highest scores, as far as the budget goes.

    Units are closed in ascending order of score until the budget is met. A unit is passed over when closing it would
    undershoot `keep - tolerance`, or empty a group of channels (only a branch's gate removes a layer); of a branch that would
    undershoot it the channels are closed next, as many as it takes.

    With `round_to` above 1, or a cost with steps (latency, energy), bundles of channels are closed instead, see
    `budget_steps.select_steps`. The result may then end `COARSE_TOLERANCE` below the budget when no choice ends within
    the tolerance.

    Where the units are too coarse for either, units are exchanged (`approach`), and the result is what comes nearest from
    below: never above the budget. Ask `reach.check_budget` before, which says so.

    Args:
        structure: of the network.
        scores: (U,), higher is kept longer. Units of different groups are compared: normalise before if need be. For
            bundles, scores are added up and must be the greater the more it hurts to lose the unit, with 0 for nothing.
        keep, tolerance: fractions of the dense cost.
        removable: (U,) bool, the units that may be closed; default all.
        cost: what the budget is stated in; default MACs.
        round_to: every group keeps a multiple of so many channels, or all of a narrower group.
        per: of bundles, what their scores are divided by, see `budget_steps.select_steps`.

    Returns:
        (U,) bool.

    Raises:
        BudgetError: even with everything closed that may be it costs more than `keep`.
    """
    cost = cost or MacCost(structure)
    kept, reached, _ = nearest(structure, scores, keep, tolerance, removable, cost, round_to, per)
    if reached > keep:
        raise BudgetError(
            f"a budget of {keep:g} cannot be met: the nearest selection costs {reached:.6g} of the dense "
            f"{COST_NAMES[cost.kind]}; the floor of this network is {floor(structure, removable, cost, round_to):.3f}"
        )
    return kept


def nearest(
    structure: Structure,
    scores: Tensor,
    keep: float,
    tolerance: float,
    removable: Tensor | None,
    cost: Cost,
    round_to: int = 1,
    per: Per = "channel",
) -> tuple[Tensor, float, float | None]:
    """As `select`, and raises nothing.

    Returns:
        (U,) bool; its cost as a fraction of dense, above `keep` where nothing costs less; and where it does not lie in the
        interval the lowest cost above `keep` that was found, or None.
    """
    coarse = round_to > 1 or cost.staircase
    least = lowest(keep, tolerance, coarse=coarse)
    if coarse:
        over = None
        for bottom in (least, 0.0):
            kept, reached = budget_steps.select_steps(
                structure, scores, keep, keep - tolerance, bottom, removable, cost, round_to, per
            )
            if reached <= keep:
                break
            over = reached
        return kept, reached, over
    choice = _closed(structure, scores, keep, keep - tolerance, removable, cost)
    reached, above = choice.cost(), None
    if reached > keep:  # whatever was left would have led below the interval
        choice, above = _closed(structure, scores, keep, 0.0, removable, cost), reached
        reached = choice.cost()
    if reached < keep - tolerance:
        seen = approach(choice, structure, scores, keep, keep - tolerance, removable)
        above = seen if above is None else above if seen is None else min(above, seen)
    return torch.from_numpy(choice.open), choice.cost(), above


def _closed(
    structure: Structure, scores: Tensor, keep: float, least: float, removable: Tensor | None, cost: Cost
) -> Choice:
    choice = Choice(structure, cost)
    ranking = torch.argsort(scores.detach().float().cpu(), stable=True).tolist()
    inside = {branch.unit: set(structure.channels_inside(branch.unit)) for branch in structure.branches}
    left = deque(unit for unit in ranking if removable is None or removable[unit])
    while left and choice.cost() > keep:
        unit = left.popleft()
        if not choice.closable(unit):
            continue
        if choice.cost_without(unit) >= least:
            choice.close(unit)
        elif (
            unit in inside
        ):  # too much to close as a whole, yet the least that is left: narrow it, before dearer ones close
            channels = inside[unit]
            left = deque([u for u in left if u in channels] + [u for u in left if u not in channels])
    if choice.cost() >= least:  # the last one that was closed may have cost more than had to go: what fits comes back
        for unit in reversed(ranking):
            if choice.open[unit] or scores[unit] == -torch.inf:  # the latter is not there any more
                continue
            if choice.cost() < choice.cost_with(unit) <= keep:  # inside a closed branch it would cost, and be, nothing
                choice.reopen(unit)
    return choice
