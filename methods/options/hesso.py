"""Options of `hesso`, see `greenprune.methods.hesso`."""

from __future__ import annotations

from greenprune.methods.options.base import MethodOptions
from pydantic import Field


class HessoOptions(MethodOptions):
    """Options of `hesso`. The authors' settings are those of their tutorial on CIFAR-10, for 100 epochs."""

    begin_share: float = Field(
        0.1, gt=0, lt=1, description="share of the training before the pruning begins (the authors: 10 epochs of 100)"
    )
    prune_share: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="share of the training in which the redundant units are driven to 0 (the authors: 10 epochs of 100; "
        "they recommend to end at a fifth or a quarter of the training)",
    )
    periods: int = Field(
        10,
        ge=1,
        description="so many times a part of the redundant units is chosen, each for an equal share of the cost that is to "
        "go (the authors: 10)",
    )
