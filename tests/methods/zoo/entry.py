"""One network of the list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from greenprune.methods import Inputs
from torch import Tensor, nn


@dataclass(frozen=True)
class Entry:
    """A network and what it is called with.

    Attributes:
        name: family/network, as the table calls it.
        build: makes it, with PyTorch's random numbers.
        arguments: makes (positional, keyword) arguments of one call, a batch of `BATCH`.
    """

    name: str
    build: Callable[[], nn.Module]
    arguments: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]] = field(repr=False)

    def network(self) -> nn.Module:
        torch.manual_seed(0)
        return self.build().eval()

    def inputs(self) -> Inputs:
        torch.manual_seed(1)
        args, kwargs = self.arguments()
        return Inputs(args, kwargs)


BATCH = 2
"""Examples in a batch."""


def images(size: int = 32, channels: int = 3) -> Tensor:
    return torch.randn(BATCH, channels, size, size)


def of_image(name: str, build: Callable[[], nn.Module], size: int = 32, channels: int = 3) -> Entry:
    """A network that is called with images."""
    return Entry(name, build, lambda: ((images(size, channels),), {}))


def called(name: str, build: Callable[[], nn.Module], *shapes: tuple[int, ...]) -> Entry:
    """A network that is called with tensors of these shapes, without the batch dimension."""
    return Entry(name, build, lambda: (tuple(torch.randn(BATCH, *shape) for shape in shapes), {}))


def named(name: str, build: Callable[[], nn.Module], make: Callable[[], dict[str, Any]]) -> Entry:
    """A network that is called with keyword arguments."""
    return Entry(name, build, lambda: ((), make()))


class Wrapped(nn.Module):
    """Takes one tensor and gives one: what `give` makes of it goes into `net`, and `take` picks from what comes out."""

    def __init__(self, net: nn.Module, give: Callable[..., Any], take: Callable[[Any], Any] = lambda y: y) -> None:
        super().__init__()
        self.net, self._give, self._take = net, give, take

    def forward(self, x: Tensor) -> Any:
        args, kwargs = self._give(x)
        return self._take(self.net(*args, **kwargs))
