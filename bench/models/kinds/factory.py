"""A user's own function, `package.module:factory`, of the number of classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenprune.bench.data.reference import called
from greenprune.bench.errors import UserError
from greenprune.bench.models.kinds.kind import Pretrained, Shape, taken

if TYPE_CHECKING:
    from torch import nn

MADE = "a function of the number of classes that returns a torch.nn.Module"


class Factory:
    form = "package.module:factory"

    def takes(self, name: str) -> bool:
        module, _, attribute = name.partition(":")
        return bool(module and attribute)

    def known(self) -> list[str]:
        return []

    def check(self, name: str) -> None:
        """The module is imported, and so run."""
        called("model", name, MADE)

    def make(self, name: str, classes: int, shape: Shape) -> nn.Module:
        """Image size and channels are given to a factory that takes them by one of the usual names."""
        factory = called("model", name, MADE)
        channels, height, width = shape
        size = height if height == width else (height, width)
        offered = dict.fromkeys(("image_size", "img_size", "input_size"), size)
        offered |= dict.fromkeys(("channels", "in_channels", "in_chans", "num_channels"), channels)
        return factory(classes, **taken(factory, offered))

    def pretrained(self, name: str, which: str, shape: Shape) -> Pretrained:
        raise UserError(
            f'weights = "{which}": of {name} no published weights are known; allowed is a file of tensors (.safetensors, '
            ".pt, .pth, .bin) or the folder of a finished run"
        )
