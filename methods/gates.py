"""The mathematics of consensus gating, as pure functions.

The method is that of arXiv 2302.10798 (v5 "Learning a Consensus Sub-Network with Polarization Regularization and One
Pass Training"). The paper's equations are not public beyond its claims; the formulation here is ours, with these names:

    z    (B, U)  logits of a gate head for each image and unit
    p    (B, U)  sigmoid(z)
    vote (U,)    mean over the batch of p; its moving average is the unit's *consensus*
    g            1[p > 1/2], with a straight-through gradient
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def binarize(logits: Tensor, noise_scale: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """0/1 gates: 1[z + noise > 0] forward, the gradient of sigmoid(z) backward (straight-through).

    Args:
        logits: any shape.
        noise_scale: scale of logistic noise on the logits, 0 for none.
        generator: draws the noise.
    """
    p = torch.sigmoid(logits)
    return straight_through(_noisy(logits.detach(), noise_scale, generator) > 0, p)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of `hard` (0/1) with the gradient of `soft`."""
    return hard.to(soft.dtype) + (soft - soft.detach())


def _noisy(logits: Tensor, scale: float, generator: torch.Generator | None) -> Tensor:
    if scale == 0.0:
        return logits
    u = torch.rand(logits.shape, device=logits.device, dtype=torch.float32, generator=generator)
    u = u.clamp(1e-6, 1.0 - 1e-6)
    return logits + scale * torch.log(u / (1.0 - u))


def majority(votes: Tensor, noise_scale: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """What the batch executes: 1[vote > 1/2] for each unit, straight-through to the vote, logistic noise on its logit."""
    if noise_scale == 0.0:
        return straight_through(votes.detach() > 0.5, votes)
    logits = torch.logit(votes.detach().float(), eps=1e-6)
    return straight_through(_noisy(logits, noise_scale, generator) > 0, votes)


def polarization_loss(votes: Tensor) -> Tensor:
    """mean_u vote_u (1 - vote_u): 0 exactly when all images agree on every gate, at most 1/4."""
    return (votes * (1.0 - votes)).mean()


def budget_loss(cost: Tensor, target: float, *, two_sided: bool = False) -> Tensor:
    """max(0, cost - target)^2, cost and target as fractions of dense; `two_sided`: (cost - target)^2."""
    excess = cost - target
    return (excess if two_sided else excess.clamp_min(0.0)).square()


def annealed(progress: float, start: float, end: float) -> float:
    """Half a cosine from `start` at progress 0 to `end` at progress 1; constant outside [0, 1]."""
    t = min(max(progress, 0.0), 1.0)
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * t))
