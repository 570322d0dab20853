"""Options of `uniform`, see `greenprune.methods.uniform`."""

from __future__ import annotations

from typing import Any, Literal

from greenprune.methods.options.base import MethodOptions
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer


class UniformOptions(MethodOptions):
    """Options of `uniform`."""

    start: Literal["scratch", "sliced"] = Field(
        "scratch",
        description="scratch: initial weights, also where the suite has others to start from; sliced: of those weights the "
        "channels of largest norm",
    )

    @model_serializer(mode="wrap")
    def _without_default(self, inner: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is not used: stored options that know none of it are the same."""
        return {name: value for name, value in inner(self).items() if value != "scratch"}
