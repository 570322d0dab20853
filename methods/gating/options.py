"""Options of consensus gating."""

from __future__ import annotations

from typing import Literal

from greenprune.methods.options.base import MethodOptions
from pydantic import Field


class GatingOptions(MethodOptions):
    """Options of consensus gating. Shares are fractions of the training steps unless they say otherwise."""

    execution: Literal["majority", "per_sample"] = Field(
        "majority",
        description="majority: the batch executes what its images vote for; per_sample: every image has its own mask",
    )
    target: Literal["projection", "loss"] = Field(
        "projection",
        description="how the budget is met: projection shifts all logits so that the open units cost exactly the budget; "
        "loss adds a budget term to the objective (the paper's way; needs gates that travel further, drift = 80)",
    )
    layers: bool = Field(True, description="gate residual branches")
    channels: bool = Field(True, description="gate channels")
    streams: bool = Field(
        False, description="gate the channels of residual streams too (all their blocks share a gate)"
    )
    closed_layers: Literal["thin", "separable", "removed"] = Field(
        "thin",
        description="what becomes of a residual branch that closes. thin: where it can (methods/structure/remnant.py), "
        "it fades until the end of the search (methods/gating/fading.py) and leaves each channel's taps on itself and, behind "
        "the first convolution, the centre taps, an eighth of its MACs or less, if streams are not gated and all such "
        "remnants together would take at most a third of the budget; separable: the same with the centre taps alone "
        "behind the first convolution, at a tenth; removed: nothing is left. Where the budget counts time or joules that is "
        "the most: each layer leaves what its measured costs speak for (methods/gating/leaving.py)",
    )
    remnant_worth: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="how much of what a residual branch is worth its remnant is taken to be worth, when gates are ordered",
    )
    search_share: float = Field(
        0.34,
        gt=0,
        le=1,
        description="share of the training after which the network is cut; less saves more of the training (0.2 "
        "where methods are compared at equal joules of training, as in the suite study)",
    )
    open_share: float = Field(0.76, ge=0, lt=1, description="share of the search with all gates held open")
    settle_share: float = Field(0.2, ge=0, lt=1, description="share of the search, at its end, at the full budget")
    budget_weight: float = Field(20.0, ge=0, description="weight of the budget loss (target = loss)")
    polarization_weight: float = Field(2.0, ge=0, description="weight of the polarization loss, annealed from 0")
    settle_polarization: float = Field(
        80.0, ge=0, description="how fast the weight of the polarization loss grows once the full budget is reached"
    )
    noise: float = Field(0.25, ge=0, description="scale of the logistic noise on the logits, annealed to 0")
    memory: float = Field(
        1.0,
        ge=0,
        le=1,
        description="how far a batch executes the consensus of those before it instead of its own majority once the full "
        "budget is reached, annealed from 0 (majority)",
    )
    balance: float = Field(
        1.0, ge=0, le=1, description="gradients of a gate are divided by its unit's cost to this power (0: not at all)"
    )
    drift: float = Field(
        10.0,
        gt=0,
        description="how far (in logits) a gate travels over the search when its gradient always points the same way; "
        "meant for SGD at a learning rate of 0.1 with momentum 0.9; much more than the spread of the logits lets gates near "
        "the threshold run past the most valuable ones, which feel no gradient any more",
    )
    gate_learning_rate: float = Field(
        1.0, gt=0, description="learning rate of the gate heads, relative to the recipe's"
    )
    initial_logit: float = Field(2.0, description="mean initial logit of a gate")
    initial_spread: float = Field(0.5, ge=0, description="standard deviation of the initial logits within a layer")
    prior_spread: float = Field(
        2.0,
        ge=0,
        description="standard deviation (over all gates) that the logits get when the gates are released, in the order of "
        "the squared gradients seen until then, divided by the unit's cost to the power of balance; 0: they stay as they are",
    )
    within_layer: float = Field(
        0.05,
        ge=0,
        le=1,
        description="how much of the differences among the channels of one layer that order keeps (a power); with less of "
        "them whole layers close and the others stay wide, with more of them layers become bottlenecks",
    )
    hidden: int = Field(16, ge=1, description="hidden width of a gate head")
    consensus_share: float = Field(
        0.02, gt=0, le=1, description="share of the search over which the consensus averages (at least 5 steps)"
    )
    shrink: bool = Field(
        True, description="remove what the gates agree on while the search goes on, not only at its end"
    )
    settled: float = Field(
        0.1, gt=0, lt=0.5, description="a gate has agreed when its consensus is below this, or above 1 minus this"
    )
    patience_share: float = Field(
        0.1,
        gt=0,
        le=1,
        description="share of the search for which a gate must have agreed before its unit is removed or opened for good "
        "(at least 10 steps); a short patience makes the first guess final",
    )
    shrink_every_share: float = Field(
        0.02, gt=0, le=1, description="share of the search after which the network shrinks again (at least 5 steps)"
    )
    revisit_every: int = Field(8, ge=1, description="a closed layer runs once in so many steps, so that it can re-open")
