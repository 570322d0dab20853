"""Options of `random`, see `greenprune.methods.random_channels`."""

from __future__ import annotations

from greenprune.methods.options.base import MethodOptions
from pydantic import Field


class RandomOptions(MethodOptions):
    """Options of `random`."""

    layers: bool = Field(True, description="remove residual branches as well as channels")
