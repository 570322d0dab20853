"""Options of `depgraph`, see `greenprune.methods.depgraph`."""

from __future__ import annotations

from greenprune.methods.options.base import MethodOptions
from pydantic import Field


class DepGraphOptions(MethodOptions):
    """Options of `depgraph`."""

    strength: float = Field(
        5e-4, ge=0, description="weight of the group-norm penalty (the authors' CIFAR script: 5e-4)"
    )
    contrast: float = Field(
        4.0,
        ge=0,
        description="the least important channel of a group is shrunk 2 ** contrast times as much as the most",
    )
    train_share: float = Field(0.3, gt=0, lt=1, description="share of the training before the penalty acts")
    sparsify_share: float = Field(0.3, gt=0, lt=1, description="share of the training under the penalty")
    fine_tune_peak: float = Field(
        0.2, gt=0, description="learning rate at the start of fine-tuning, relative to the recipe's"
    )
