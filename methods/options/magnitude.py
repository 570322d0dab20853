"""Options of `magnitude`, see `greenprune.methods.magnitude`."""

from __future__ import annotations

from typing import Literal

from greenprune.methods.options.base import MethodOptions
from pydantic import Field


class MagnitudeOptions(MethodOptions):
    """Options of `magnitude`."""

    norm: Literal["l1", "l2"] = Field("l1", description="norm of a filter's weights (Li et al. use L1)")
    scope: Literal["global", "layer"] = Field(
        "global",
        description="global: one ranking over all layers, each layer's norms divided by their mean; "
        "layer: the same share of every layer goes",
    )
    # Found with `greenprune tune` on a fifth of CIFAR-10 and on the held-out images of eight epochs. Fine-tuning wants a high
    # learning rate, as Renda et al. 2020 (arXiv 2003.02389) say; Li et al. use 0.01 of it, after a full training.
    train_share: float = Field(0.5, gt=0, lt=1, description="share of the training before the filters are removed")
    fine_tune_peak: float = Field(
        0.5, gt=0, description="learning rate at the start of fine-tuning, relative to the recipe's"
    )
