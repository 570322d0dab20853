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
from collections.abc import Callable

import torch
from torch import Tensor


def binarize(logits: Tensor, noise: Tensor | None = None) -> Tensor:
    """0/1 gates: 1[z + noise > 0] forward, the gradient of sigmoid(z) backward (straight-through).

    Args:
        logits: any shape.
        noise: on the logits, same shape; None for none.
    """
    p = torch.sigmoid(logits)
    z = logits.detach()
    return straight_through((z if noise is None else z + noise) > 0, p)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of `hard` (0/1) with the gradient of `soft`."""
    return hard.to(soft.dtype) + (soft - soft.detach())


def logistic_noise(shape: tuple[int, ...], scale: float, generator: torch.Generator) -> Tensor:
    """float32 noise of `shape` from the logistic distribution of `scale`, on the generator's device.

    With scale 1, 1[z + noise > 0] is 1 with probability sigmoid(z).
    """
    u = torch.rand(shape, device=generator.device, dtype=torch.float32, generator=generator)
    u = u.clamp_(1e-6, 1.0 - 1e-6)
    return scale * torch.logit(u)


def majority(
    votes: Tensor, noise: Tensor | None = None, *, standing: Tensor | None = None, memory: float = 0.0
) -> Tensor:
    """What the batch executes: 1[vote > 1/2] for each unit, with the gradient of the vote (straight-through).

    Args:
        votes: (U,), in [0, 1].
        noise: (U,), on the votes' logits; None for none.
        standing: (U,), logits of what the batches before this one voted for, as a moving average.
        memory: how much they count, from 0 (this batch decides alone) to 1 (it executes the consensus). Without it gates
            near the threshold flip from batch to batch, and the network never trains as what it will be.
    """
    if standing is None:
        standing, memory = torch.zeros_like(votes), 0.0
    return straight_through(votes.detach() > majority_needed(standing, memory, noise), votes)


def majority_needed(standing: Tensor, memory: float, noise: Tensor | None = None) -> Tensor:
    """(U,), the vote that a batch must exceed for a unit to be open: 1[vote > needed] is 1[z > 0], z being the vote's logit,
    by `memory` of the way towards `standing`, plus the noise. Without either of them 1/2.

    Args:
        standing, memory, noise: as of `majority`.
    """
    pull = standing * memory if noise is None else standing * memory + noise
    if memory == 1.0:  # no vote counts
        return torch.where(pull > 0.0, -1.0, 2.0)
    return torch.sigmoid(pull / (memory - 1.0))


def prior_logits(benefit: Tensor, mean: float, spread: float) -> Tensor:
    """Logits in the order of `benefit`, what a unit is worth for what it costs: log(benefit), standardised and rescaled.

    The worth of a unit is the mean square of the loss's gradient with respect to its gate, an estimate of how much the
    loss rises without it (Theis et al. 2018, arXiv 1801.05787, section 2.2). The plain gradient cannot say how much a
    whole layer is worth: a batch norm behind the layer undoes a common scale of its channels, so over the channels of
    a layer their gradients, weighted by the gates, add up to zero.

    Args:
        benefit: (U,), above zero.
        mean, spread: of the result; deviations are cut at 3 times the spread.
    """
    logs = benefit.log()
    deviations = (logs - logs.mean()) / logs.std(unbiased=False).clamp_min(1e-12)
    return mean + spread * deviations.clamp(-3.0, 3.0)


def polarization_loss(votes: Tensor) -> Tensor:
    """mean_u vote_u (1 - vote_u): 0 exactly when all images agree on every gate, at most 1/4."""
    return (votes * (1.0 - votes)).mean()


def disagreement_loss(votes: Tensor, chosen: Tensor) -> Tensor:
    """mean_u (vote_u - chosen_u)^2, `chosen` 0 or 1: polarization with a known end, 0 exactly when all agree on the choice."""
    return (votes - chosen).square().mean()


def budget_loss(cost: Tensor, target: float, *, two_sided: bool = False) -> Tensor:
    """max(0, cost - target)^2, cost and target as fractions of dense; `two_sided`: (cost - target)^2."""
    excess = cost - target
    return (excess if two_sided else excess.clamp_min(0.0)).square()


def annealed(progress: float, start: float, end: float) -> float:
    """Half a cosine from `start` at progress 0 to `end` at progress 1; constant outside [0, 1]."""
    t = min(max(progress, 0.0), 1.0)
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * t))


def threshold(
    cost: Callable[[Tensor], Tensor],
    scores: Tensor,
    undecided: Tensor,
    opened: Tensor,
    target: float,
    near: float | None = None,
) -> Tensor | None:
    """The projection: one global threshold on the scores, so that the units above it cost at most `target`.

    Args:
        cost: of (U,) openness, as a fraction of dense; rises with openness.
        scores: (U,).
        undecided: (U,) bool, the units that the threshold decides on.
        opened: (U,) bool, the units that are open anyway; all others are closed.
        near: where to begin to look, the threshold of the step before; changes no result, saves most of the time.

    Returns:
        (), half-way between the last closed and the first open unit (so that polarization parts them both ways), as low as
        the target allows; above all scores but one where nothing meets it; None where nothing is undecided.
    """
    candidates = scores[undecided].sort().values
    if len(candidates) == 0:
        return None
    low, high = 0, len(candidates) - 1

    def meets_it(last_closed: int) -> bool:
        is_open = torch.where(undecided, scores > candidates[last_closed], opened)
        return float(cost(is_open.float())) <= target

    if near is not None:
        guess = min(max(int((candidates <= near).sum()) - 1, low), high)
        met, reach = meets_it(guess), 1
        low, high = (low, guess) if met else (min(guess + 1, high), high)
        while low < high:  # in strides that double, until the answer lies between two of them
            probe = max(low, high - reach) if met else min(high - 1, low + reach - 1)
            if meets_it(probe):
                high = probe
            else:
                low = probe + 1
            if (high == probe) != met:
                break
            reach *= 2
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if meets_it(middle) else (middle + 1, high)
    return candidates[low : low + 2].mean()
