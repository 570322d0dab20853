"""Options of `one_cycle`, see `greenprune.methods.one_cycle`."""

from __future__ import annotations

from greenprune.methods.options.base import MethodOptions
from pydantic import Field


class OneCycleOptions(MethodOptions):
    """Options of `one_cycle`. The authors' settings are those of their CIFAR script, for 300 epochs."""

    begin_share: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="share of the training before the regularisation acts and the network may be cut (the authors: epoch "
        "30 of 300)",
    )
    latest_cut: float = Field(
        0.37,
        gt=0,
        lt=1,
        description="share of the training at which the network is cut even if its sub-network is not stable (the authors: "
        "epoch 110 of 300)",
    )
    look_share: float = Field(
        0.01,
        gt=0,
        le=0.1,
        description="share of the training between two looks at the sub-network (the authors: an epoch of 300)",
    )
    stability: float = Field(
        0.999,
        gt=0,
        le=1,
        description="the network is cut as soon as the stability score reaches this (the authors: 0.999)",
    )
    shrinkage: float = Field(
        7.0,
        ge=0,
        description="the regularisation alone would shrink what is redundant from `begin_share` to `latest_cut` by "
        "exp(-shrinkage), ever faster (the authors' script: about 7 until its learning rate falls)",
    )
    group_limit: float = Field(
        0.75,
        gt=0,
        le=1,
        description="of a group of channels at most this share goes, as long as others are left (the authors: 0.75)",
    )
