"""What the gates know when they are released: how much the network needed each unit while all of them were open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from methods.gates import prior_logits
from methods.shrinking import UNDECIDED

if TYPE_CHECKING:
    from methods.gating import ConsensusGating


@torch.no_grad()
def order_gates(gating: ConsensusGating) -> None:
    """Move the logits of all undecided gates to where `gates.prior_logits` puts them, by the biases of their heads.

    Does nothing with `prior_spread = 0`, or when no gate has seen a gradient (a search without an open stretch).
    """
    options, worth = gating.options, gating.state.gradients.importance
    undecided = gating.decided == UNDECIDED
    seen = worth[undecided & (worth > 0)]
    if options.prior_spread == 0.0 or len(seen) < 2:
        return
    worth = worth.clamp_min(seen.min())  # a dead channel's is 0, which has no logarithm
    prices = gating._cost.prices().clamp_min(1e-12).pow(options.balance)
    spread = options.prior_spread
    if options.target == "loss":  # no threshold moves with the budget: no gate may start closed
        spread = min(spread, options.initial_logit / 3.0)
    logits = prior_logits((worth / prices)[undecided], options.initial_logit, spread)
    change = torch.zeros_like(gating.logit_mean)
    change[undecided] = logits - gating.logit_mean[undecided]
    for head in gating.heads():
        head.last.bias += change[head.units]
    gating.logit_mean += change
