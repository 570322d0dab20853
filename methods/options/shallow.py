"""Options of `shallow`, see `greenprune.methods.shallow`."""

from __future__ import annotations

from typing import Literal

from greenprune.methods.options.base import MethodOptions
from pydantic import Field


class ShallowOptions(MethodOptions):
    """Options of `shallow`."""

    start: Literal["scratch", "kept"] = Field(
        "scratch",
        description="scratch: initial weights, also where the suite has others to start from; kept: of those weights the "
        "blocks that stay, and of a block that is narrowed the channels of largest norm",
    )
