"""ResNets for 32×32 images (He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2)."""

from __future__ import annotations

import torch.nn.functional as F
from greenprune.bench.models.traps import Subsample
from torch import Tensor, nn

WIDTHS = (16, 32, 64)


class Block(nn.Module):
    """Basic block: `relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))`.

    The shortcut is the identity; where the shape changes it is a 1×1 convolution with a norm (the paper's option B:
    unlike option A's zero padding its channels can be removed like all others).

    Args:
        in_channels, out_channels: width of the input and of everything behind the first convolution.
        stride: 1, or 2 to halve height and width.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                Subsample(stride),  # not the convolution's stride: see bench/models/traps.py
                nn.Conv2d(in_channels, out_channels, 1, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """Stem, three stages of `blocks` basic blocks with 16, 32 and 64 channels, global average, one linear layer.

    Maps (B, C, H, W) to (B, classes). Convolutions start as in He et al. 2015 ("Delving Deep into Rectifiers").
    """

    def __init__(self, blocks: int, classes: int, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], blocks, stride=1)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], blocks, stride=2)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], blocks, stride=2)
        self.fc = nn.Linear(WIDTHS[2], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean(dim=(2, 3)))


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = Block(in_channels, out_channels, stride)
    return nn.Sequential(first, *(Block(out_channels, out_channels) for _ in range(blocks - 1)))


def resnet(depth: int, classes: int, channels: int = 3) -> ResNet:
    """The ResNet with `depth` = 6n + 2 weighted layers (20, 32, 44, 56, 110 in the paper), for images of `channels`.

    Raises:
        ValueError: no such depth.
    """
    blocks, rest = divmod(depth - 2, 6)
    if blocks < 1 or rest:
        raise ValueError(f"depth = {depth}: allowed is 6n + 2 with n of at least 1")
    return ResNet(blocks, classes, channels)
