"""Networks of OTO's sanity check and of Torch-Pruning's tests that are made of convolutions one behind the other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.methods.zoo.parts import Head, conv


class TransposedBetween(nn.Module):
    """Two paths with norms of their own behind one convolution, summed, then a transposed convolution under two readers."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()

        def norm(channels: int) -> nn.InstanceNorm2d:
            return nn.InstanceNorm2d(channels, affine=True)

        self.stem, self.norm_a, self.norm_b = conv(3, width), norm(width), norm(width)
        self.direct, self.first, self.second = (
            conv(width, 4 * width),
            conv(width, 2 * width),
            conv(2 * width, 4 * width),
        )
        self.norm_c, self.norm_d = norm(2 * width), norm(8 * width)
        self.up = nn.ConvTranspose2d(4 * width, 8 * width, 3, padding=1)
        self.left, self.right = conv(8 * width, 4 * width), conv(8 * width, 4 * width)
        self.norm_e, self.norm_f = norm(4 * width), norm(4 * width)
        self.last, self.head = conv(4 * width, 4 * width), Head(4 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        a, b = F.leaky_relu(self.norm_a(x)), F.leaky_relu(self.norm_b(x))
        x = self.direct(a) + self.second(F.leaky_relu(self.norm_c(self.first(b))))
        x = F.leaky_relu(self.norm_d(self.up(x)))
        return self.head(self.last(self.norm_e(self.left(x)) + self.norm_f(self.right(x))))


class TransposedBeside(nn.Module):
    """Convolutions and transposed convolutions beside each other, concatenated under one norm and then summed."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()

        def norm(channels: int) -> nn.InstanceNorm2d:
            return nn.InstanceNorm2d(channels, affine=True)

        def up(i: int, o: int) -> nn.ConvTranspose2d:
            return nn.ConvTranspose2d(i, o, 3, padding=1)

        self.stem, self.norm_a, self.norm_b, self.norm_c = conv(3, width), norm(width), norm(width), norm(2 * width)
        self.direct, self.first, self.second = (
            conv(width, 4 * width),
            conv(width, 2 * width),
            conv(2 * width, 4 * width),
        )
        self.norm_d, self.norm_e, self.norm_f = norm(8 * width), norm(4 * width), norm(4 * width)
        self.left, self.right, self.join = (
            conv(8 * width, 4 * width),
            up(8 * width, 4 * width),
            up(8 * width, 4 * width),
        )
        self.end_a, self.end_b, self.head = conv(4 * width, 6 * width), up(4 * width, 6 * width), Head(6 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        a, b = F.leaky_relu(self.norm_a(x)), F.leaky_relu(self.norm_b(x))
        a, b = self.direct(a), self.second(F.leaky_relu(self.norm_c(self.first(b))))
        x = F.leaky_relu(self.norm_d(torch.cat([a, b], dim=1)))
        x = F.leaky_relu(torch.cat([self.norm_e(self.left(x)), self.norm_f(self.right(x))], dim=1))
        x = F.leaky_relu(self.join(x))
        return self.head(F.leaky_relu(self.end_a(x)) + F.leaky_relu(self.end_b(x)))


class Again(nn.Module):
    """Two convolutions called in a loop, each time beside the same skip."""

    def __init__(self, width: int = 32, rounds: int = 4) -> None:
        super().__init__()
        self.rounds = rounds
        self.stem, self.skip, self.wide = conv(3, 2 * width), conv(2 * width, width), conv(2 * width, 3 * width)
        self.narrow, self.last = conv(3 * width, width, 1), conv(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        skip = self.skip(x)
        for _ in range(self.rounds):
            x = torch.cat([self.narrow(self.wide(x)), skip], dim=1)
        return self.last(x)


class DepthwisePair(nn.Module):
    def __init__(self, i: int, o: int, **options: int) -> None:
        super().__init__()
        self.each = nn.Conv2d(i, i, groups=i, **options)
        self.point = nn.Conv2d(i, o, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.point(self.each(x))


class DepthwiseUNet(nn.Module):
    """Depthwise pairs down, other inputs joined at the bottom, what comes out there cut in two, and transposed layers up.

    Called with an image in two parts and two maps of a fourth of its size; returns logits and what was cut off below.
    """

    def __init__(self, width: int = 12) -> None:
        super().__init__()

        def norm(channels: int) -> nn.InstanceNorm2d:
            return nn.InstanceNorm2d(channels, affine=True)

        def up(i: int, o: int) -> nn.ConvTranspose2d:
            return nn.ConvTranspose2d(i, o, 3, stride=2, padding=1, output_padding=1)

        self.cut = 4 * width
        self.down_1 = DepthwisePair(6, width, kernel_size=5, stride=2, padding=2)
        self.down_2 = DepthwisePair(width, 2 * width, kernel_size=3, stride=2, padding=1)
        self.down_3 = DepthwisePair(2 * width, 4 * width, kernel_size=3, stride=2, padding=1)
        self.bottom = DepthwisePair(8 * width, 10 * width, kernel_size=3, stride=1, padding=2)
        self.bottom.each = nn.Conv2d(8 * width, 8 * width, 3, padding=2, dilation=2, groups=8 * width)
        self.norm_1, self.norm_2, self.norm_3 = norm(width), norm(2 * width), norm(4 * width)
        self.up_2, self.up_1, self.up_0 = up(4 * width, 2 * width), up(4 * width, width), up(2 * width, width)
        self.norm_u2, self.norm_u1, self.norm_u0 = norm(2 * width), norm(width), norm(width)
        self.last, self.head = conv(width, 2 * width, 5), Head(2 * width)

    def forward(self, first: Tensor, second: Tensor, low: Tensor, deep: Tensor) -> tuple[Tensor, Tensor]:
        x = F.leaky_relu(self.norm_1(self.down_1(torch.cat([first, second], dim=1))))
        two = F.leaky_relu(self.norm_2(self.down_2(x)))
        three = F.leaky_relu(self.norm_3(self.down_3(two)))
        bottom = self.bottom(torch.cat([deep, three, low], dim=1))
        inner, out = bottom[:, : self.cut, ...], bottom[:, self.cut :, ...]
        y = torch.cat([self.norm_u2(self.up_2(inner)), two], dim=1)
        y = torch.cat([self.norm_u1(self.up_1(y)), x], dim=1)
        y = self.norm_u0(self.up_0(y))
        return self.head(self.last(y)), out

    def maps(self) -> tuple[int, int]:
        """Channels of the two maps."""
        return self.cut // 2, self.cut // 2


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(256, 120), nn.Linear(120, 84), nn.Linear(84, 10)
        self.pool, self.act = nn.MaxPool2d(2), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.act(self.conv1(x)))
        x = self.pool(self.act(self.conv2(x)))
        x = x.view(x.shape[0], -1)
        return self.act(self.fc3(self.act(self.fc2(self.act(self.fc1(x))))))


class ThreeConvolutions(nn.Module):
    """Three convolutions with norms; the second may be transposed, the last has one channel or several."""

    def __init__(self, out: int = 1, *, transposed: bool = False) -> None:
        super().__init__()
        kind = nn.ConvTranspose2d if transposed else nn.Conv2d
        self.conv1, self.bn1 = conv(3, 16), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = kind(16, 64, 2, stride=2), nn.BatchNorm2d(64)
        self.conv3, self.bn3 = conv(64, out), nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)))


class Residual(nn.Module):
    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(i, o, stride=stride), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = conv(o, o), nn.BatchNorm2d(o)
        self.short = (
            nn.Sequential()
            if stride == 1 and i == o
            else nn.Sequential(nn.Conv2d(i, o, 1, stride=stride), nn.BatchNorm2d(o))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        y += self.short(x)
        return F.relu(y)


class ResNet18(nn.Module):
    """As it is drawn for CIFAR, narrower."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(3, width), nn.BatchNorm2d(width)
        blocks: list[nn.Module] = []
        i = width
        for stage in range(4):
            o = width * 2**stage
            blocks += [Residual(i, o, 1 if stage == 0 else 2), Residual(o, o, 1)]
            i = o
        self.blocks, self.linear = nn.Sequential(*blocks), nn.Linear(i, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.bn1(self.conv1(x))))
        x = F.avg_pool2d(x, 4)
        return self.linear(x.view(x.size(0), -1))
