"""What the gates know when they are released: how much the network needed each unit while all of them were open."""

from __future__ import annotations

import warnings

import torch
from greenprune.methods.gating.mathematics import prior_logits
from greenprune.methods.gating.options import GatingOptions
from greenprune.methods.gating.shrinking import UNDECIDED
from greenprune.methods.structure.units import Structure
from torch import Tensor


class Unjudged(UserWarning):
    """No gradient reached the gates of some layers while they were open, so nothing is known of what these are worth."""


def share_layer_worth(structure: Structure, worth: Tensor, within: float = 1.0) -> Tensor:
    """Worths of all units, with the channels of a residual branch rescaled so that they add up to the branch's own.

    To close all channels of a group that a branch is made of is to close the branch, so together they are worth as much.
    Squared gradients of single gates do not add up like that: they leave out what the channels do together (the cross
    terms of the Fisher information), which the gate of the branch does see. Without this whole layers look dearer than
    the sum of their channels, and bottlenecks are made where closing a layer would cost less.

    What the channels of one layer differ by is known less well than what layers differ by, and matters less, since channels
    that train on can take over from each other. So it is shrunk: with `within = 0` they are all worth the same.

    Args:
        structure: what `worth` numbers.
        worth: (U,), at least 0; 0 for a unit whose gate saw no gradient. Groups that are not in exactly one branch, or
            whose branch or channels are worth 0, stay as they are.
        within: power of the channels' worths before they are rescaled, in [0, 1].
    """
    shared = worth.clone()
    for group in structure.groups:
        around = {structure.layers[name].branches for name in group.producers}
        if len(around) != 1 or len(units := around.pop()) != 1:
            continue
        layer, powers = worth[units[0]], worth[group.units].clamp_min(1e-30).pow(within)
        if layer > 0 and (worth[group.units] > 0).any():
            shared[group.units] = powers * (layer / powers.sum())
    return shared


@torch.no_grad()
def ordered(
    structure: Structure, importance: Tensor, logits: Tensor, decided: Tensor, prices: Tensor, options: GatingOptions
) -> Tensor | None:
    """The logits with those of all undecided gates where `mathematics.prior_logits` puts them.

    Layers of which no gate saw a gradient lie in the middle of the others, with a warning that names them (`Unjudged`).

    Args:
        importance: (U,) what the loss said of each unit while all gates were open, at least 0.
        logits: (U,) those of the consensus.
        decided: (U,) GONE, UNDECIDED or OPEN.
        prices: (U,) cost of each unit alone.

    Returns:
        (U,); None with `prior_spread = 0`, or when no gate has seen a gradient (a search without an open stretch).
    """
    worth = share_layer_worth(structure, importance, options.within_layer)
    for branch in structure.branches:
        if branch.remnant is not None:  # what is lost by closing it is only what the remnant cannot do
            worth[branch.unit] *= 1.0 - options.remnant_worth
    undecided = decided == UNDECIDED
    seen = worth[undecided & (worth > 0)]
    if options.prior_spread == 0.0 or len(seen) < 2:
        return None
    worth = worth.clamp_min(seen.min())  # a dead channel's is 0, which has no logarithm
    benefit = worth / prices.clamp_min(1e-12).pow(options.balance)
    blind = unjudged(structure, importance, undecided)
    if blind.any():
        benefit[blind] = benefit[undecided & ~blind].median()
    spread = options.prior_spread
    if options.target == "loss":  # no threshold moves with the budget: no gate may start closed
        spread = min(spread, options.initial_logit / 3.0)
    found = logits.clone()
    found[undecided] = prior_logits(benefit[undecided], options.initial_logit, spread)
    return found


def unjudged(structure: Structure, importance: Tensor, undecided: Tensor) -> Tensor:
    """(U,) bool: undecided units that no backward pass can have reached; warns of them by the names of their layers.

    One gate without a gradient is that of a dead channel. Where a whole group has none, nor a branch that it lies in, or a
    branch and all within it, the layers lie under `torch.no_grad()`, or nothing that follows them hands gradients back.

    Args:
        importance: (U,) what the loss said of each unit, 0 without a gradient.
        undecided: (U,) bool.
    """
    blind, names = torch.zeros_like(undecided), list[str]()
    parts = []
    for group in structure.groups:
        around = set.intersection(*({*structure.layers[name].branches} for name in group.producers))
        units = [*range(group.start, group.start + group.width)]
        parts.append((group.name, units, [*units, *around]))
    parts += [(b.name, [b.unit], [b.unit, *structure.channels_inside(b.unit)]) for b in structure.branches]
    for name, own, within in parts:
        if undecided[own].any() and not (importance[within] > 0).any():
            blind[own] = undecided[own]
            names.append(name)
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        warnings.warn(
            f"no gradient reached the gates of {', '.join(names[:5])}{more} (do these layers run under torch.no_grad(), or "
            "is what they give detached?), so nothing is known of what they are worth: they are ranked in the middle",
            Unjudged,
            stacklevel=5,
        )
    return blind
