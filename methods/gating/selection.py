"""Which units a search keeps: one threshold for all gates while the budget tightens, then a final choice."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from greenprune.methods.budget import select as budget
from greenprune.methods.gating.mathematics import threshold
from greenprune.methods.gating.shrinking import GONE, OPEN, UNDECIDED
from torch import Tensor

if TYPE_CHECKING:
    from greenprune.methods.gating.module import ConsensusGating


@torch.no_grad()
def project(gating: ConsensusGating) -> None:
    """Shift all logits so that the units above 1/2 cost the budget in force: one global threshold."""
    if gating.options.target != "projection" or gating._held_open() or gating.chosen is not None:
        return
    undecided = gating.decided == UNDECIDED
    opened, near = gating.decided == OPEN, float(gating.shift)
    found = threshold(gating._cost, gating.logit_mean, undecided, opened, gating.target(), near)
    if found is not None:
        gating.shift.copy_(found)


def choose(gating: ConsensusGating) -> None:
    """The full budget is reached: what the threshold keeps now is final, all that is left is to agree on it.

    If gates went on learning they would rise at the threshold, as the loss wants all of them open, past saturated ones that
    hardly follow; the threshold would rise with them and close the most valuable units.
    """
    if gating.chosen is None and gating.options.target == "projection":
        # Where no selection meets the budget yet the search goes on; if that stays so its end says it.
        with contextlib.suppress(budget.BudgetError):
            gating.chosen = select(gating).to(gating.decided.device)


def select(gating: ConsensusGating) -> Tensor:
    """(U,) bool, on the CPU: what the budget keeps when the search ends now.

    Raises:
        BudgetError: no selection of units meets the budget.
    """
    gone = (gating.decided == GONE).cpu()
    if gating.chosen is not None:
        return gating.chosen.cpu() & ~gone
    bundles = gating._cost.staircase or gating.round_to > 1
    # A unit hurts the more the likelier it is open; with bundles of channels these add up.
    scores = (torch.sigmoid(gating.logit_mean - gating.shift) if bundles else gating.logit_mean).cpu()
    scores = scores.masked_fill(gone, -1.0 if bundles else -torch.inf)
    removable = (gating.decided <= UNDECIDED).cpu()
    cost, round_to = gating._cost, gating.round_to
    try:
        keep = budget.select(gating.structure, scores, gating.keep, gating.tolerance, removable, cost, round_to)
    except budget.BudgetError:
        if gating.reachable is None:
            raise
        return gating.reachable  # coarse units: the ranking of now leads past the budget, an earlier one met it
    # Bundles may want something back that is gone; what was decided lies within the selection of that time.
    return gating.reachable if gating.reachable is not None and (keep & gone).any() else keep & ~gone
