"""Which units a search keeps when it ends."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from greenprune.methods.budget import select as budget
from greenprune.methods.cost.costs import Cost
from greenprune.methods.gating.shrinking import GONE, UNDECIDED
from greenprune.methods.structure.units import Structure
from torch import Tensor


@dataclass(frozen=True)
class Terms:
    """What the result may cost.

    Attributes:
        cost: of a selection, as a fraction of dense.
        keep, tolerance: the result costs `keep` at most and `keep - tolerance` at least.
        round_to: groups of channels keep a multiple of so many.
    """

    cost: Cost
    keep: float
    tolerance: float
    round_to: int


@torch.no_grad()
def select(
    structure: Structure, terms: Terms, logits: Tensor, shift: Tensor, decided: Tensor, reachable: Tensor | None
) -> Tensor:
    """What the budget keeps when the search ends now.

    Args:
        logits: (U,), of the consensus, before the `shift` of the threshold.
        decided: (U,) GONE, UNDECIDED or OPEN.
        reachable: (U,) bool, an earlier selection on budget that what is decided leaves possible.

    Returns:
        (U,) bool, on the CPU.

    Raises:
        BudgetError: no selection of units meets the budget.
    """
    gone = (decided == GONE).cpu()
    bundles = terms.cost.staircase or terms.round_to > 1
    # A unit hurts the more the likelier it is open; with bundles of channels these add up, and what is gone hurts nobody.
    scores = (torch.sigmoid(logits - shift) if bundles else logits).cpu()
    scores = scores.masked_fill(gone, 0.0 if bundles else -torch.inf)
    removable = (decided <= UNDECIDED).cpu()
    try:
        keep = budget.select(
            structure, scores, terms.keep, terms.tolerance, removable, terms.cost, terms.round_to, per="saved"
        )
    except budget.BudgetError:
        if reachable is None:
            raise
        return reachable  # coarse units: the ranking of now leads past the budget, an earlier one met it
    # Bundles may want something back that is gone; what was decided lies within the selection of that time.
    return reachable if reachable is not None and (keep & gone).any() else keep & ~gone
