"""What a kind of network has to know: its names, how one is made, and which weights there are for it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

Shape = tuple[int, int, int]
"""Channels, height and width of one image."""

SMALL: Shape = (3, 32, 32)

SAFETENSORS, PICKLED = (".safetensors",), (".pt", ".pth", ".bin")
SUFFIXES = (*SAFETENSORS, *PICKLED)
"""Of files of tensors."""


@dataclass(frozen=True)
class Preprocessing:
    """How the images were prepared that weights were trained on.

    Attributes:
        mean, std: per channel, of pixels scaled to 0..1.
        image_size: height and width in pixels, where it is known.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)  # equal to itself alone, so that what follows from it can be remembered
class Pretrained:
    """Weights to start from.

    Attributes:
        tensors: by the names of the network that they are of.
        source: what they are, for a sentence: "results/x/dense-1-s0", "timm/resnet18.a1_in1k".
        preprocessing: of the images that they were trained on; None where nobody knows.
        unused: beginnings of the names of tensors that are left out, such as heads for training alone.
    """

    tensors: Mapping[str, Tensor]
    source: str
    preprocessing: Preprocessing | None = None
    unused: tuple[str, ...] = ()


class Kind(Protocol):
    """One kind of names.

    Attributes:
        form: how its names look, for a sentence.
    """

    form: str

    def takes(self, name: str) -> bool:
        """Whether the name is one of this kind, known or not."""

    def known(self) -> list[str]:
        """Names, for suggestions; as many as can be told without effort."""

    def check(self, name: str) -> None:
        """Raise UserError where there is no such network; it is not made."""

    def make(self, name: str, classes: int, shape: Shape) -> nn.Module:
        """The network with that many outputs, freshly initialised by the global random number generators.

        Raises:
            UserError: there is no such network, or it does not take such images.
        """

    def pretrained(self, name: str, which: str, shape: Shape) -> Pretrained:
        """Published weights: "DEFAULT", or by their name. From the user's cache, else downloaded.

        Raises:
            UserError: there are none of this name, or they cannot be had.
        """


def taken(function: Any, offered: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `offered` that `function` takes by name."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # of some built-in things there is none
        return {}
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: value for name, value in offered.items() if name in parameters and parameters[name].kind in by_name}
