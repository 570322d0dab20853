"""VGG-16 with batch norm for 32×32 images.

Simonyan & Zisserman 2015, configuration D; as usual on CIFAR (Liu & Deng 2015; Li et al. 2017, "Pruning Filters for
Efficient ConvNets") the three fully connected layers, made for 7×7 maps, give way to a single linear classifier.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Output channels of the 3×3 convolutions; each stage ends with a 2×2 max pooling, so that 32×32 becomes 1×1."""


class VGG(nn.Module):
    """Thirteen 3×3 convolutions, each with norm and ReLU, and one linear layer: (B, *shape) to (B, classes)."""

    def __init__(self, classes: int, shape: tuple[int, int, int] = (3, 32, 32)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, height, width = shape
        for stage in STAGES:
            for in_channels, out_channels in pairwise((channels, *stage)):
                layers += [
                    nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
                    nn.BatchNorm2d(out_channels),
                    nn.ReLU(),
                ]
            layers.append(nn.MaxPool2d(2))
            channels = stage[-1]
        self.features = nn.Sequential(*layers)
        halved = 2 ** len(STAGES)
        self.classifier = nn.Linear(channels * (height // halved) * (width // halved), classes)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


def vgg16_bn(classes: int, shape: tuple[int, int, int] = (3, 32, 32)) -> VGG:
    """VGG-16-BN for `classes` classes: 14.7 M parameters, 313 M multiply-accumulates at 32×32.

    Args:
        shape: channels, height and width of an image, at least 32×32.

    Raises:
        ValueError: the images are smaller.
    """
    if min(shape[1:]) < 2 ** len(STAGES):
        raise ValueError(f"images of {shape[1]}×{shape[2]}: allowed is at least 32×32")
    return VGG(classes, shape)
