"""Options of `slimming`, see `greenprune.methods.slimming`."""

from __future__ import annotations

from greenprune.methods.options.base import MethodOptions
from pydantic import Field


class SlimmingOptions(MethodOptions):
    """Options of `slimming`."""

    strength: float = Field(
        1e-4,
        ge=0,
        description="weight of the L1 penalty on the scales, at least (Liu et al., section 4.2: 1e-4 or 1e-5)",
    )
    drift: float = Field(
        0.2,
        ge=0,
        description="how far the penalty alone would move a scale while it acts; it raises `strength` in trainings that are "
        "too short for the paper's value, 0: never; meant for SGD at a learning rate of 0.1 with momentum 0.9",
    )
    initial_scale: float = Field(
        0.5, gt=0, description="factor on initial scales, not on those of given weights (Liu et al., section 4.2: 0.5)"
    )
    train_share: float = Field(0.6, gt=0, lt=1, description="share of the training before the channels are removed")
    fine_tune_peak: float = Field(
        0.5, gt=0, description="learning rate at the start of fine-tuning, relative to the recipe's"
    )
