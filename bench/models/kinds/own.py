"""The networks defined here: CIFAR ResNets, VGG-16-BN and a small vision transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenprune.bench.errors import UserError
from greenprune.bench.models.kinds.kind import Pretrained, Shape

if TYPE_CHECKING:
    from torch import nn

RESNETS = {f"resnet{depth}": depth for depth in (20, 32, 44, 56, 110)}
OWN = (*RESNETS, "vgg16_bn", "vit_tiny_cifar")


class Own:
    form = ", ".join(OWN)

    def takes(self, name: str) -> bool:
        return name in OWN

    def known(self) -> list[str]:
        return list(OWN)

    def check(self, name: str) -> None:
        """All names that it takes are known."""

    def make(self, name: str, classes: int, shape: Shape) -> nn.Module:
        from greenprune.bench.models.resnet import resnet
        from greenprune.bench.models.vgg import vgg16_bn
        from greenprune.bench.models.vit import vit_tiny_cifar

        if name in RESNETS:
            return resnet(RESNETS[name], classes, shape[0])
        return vgg16_bn(classes, shape) if name == "vgg16_bn" else vit_tiny_cifar(classes, shape)

    def pretrained(self, name: str, which: str, shape: Shape) -> Pretrained:
        raise UserError(
            f'weights = "{which}": {name} has no published weights; allowed is a file of tensors (.safetensors, .pt, .pth, '
            ".bin) or the folder of a finished run"
        )
