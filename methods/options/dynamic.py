"""Options of `dynamic`, see `greenprune.methods.dynamic`."""

from __future__ import annotations

from typing import Literal

from greenprune.methods.options.base import MethodOptions
from pydantic import Field


class DynamicOptions(MethodOptions):
    """Options of `dynamic`."""

    layers: bool = Field(True, description="gate residual branches")
    channels: Literal["auto", "always", "never"] = Field(
        "auto",
        description="gate blocks of channels inside of branches and of networks without branches; "
        "auto: only where layers alone cannot reach the budget",
    )
    blocks: int = Field(4, ge=2, description="blocks that the channels of a gated convolution are cut into")
    open_share: float = Field(0.1, ge=0, lt=1, description="share of the training with all gates held open")
    settle_share: float = Field(0.3, gt=0, lt=1, description="share of the training, at its end, at the full budget")
    noise: float = Field(1.0, ge=0, description="scale of the logistic noise on the logits, annealed to 0 (1: Gumbel)")
    drift: float = Field(
        80.0,
        gt=0,
        description="how far (in logits) a gate travels over the training when its gradient always points the same way; "
        "meant for SGD at a learning rate of 0.1 with momentum 0.9",
    )
    initial_logit: float = Field(2.0, description="initial logit of the gates (0.88 open; ConvNet-AIG: 0.85)")
    hidden: int = Field(16, ge=1, description="hidden width of a gate head (ConvNet-AIG: 16)")
