"""Networks of OTO's sanity check and of Torch-Pruning's tests that join and divide what flows through them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.methods.zoo.parts import conv


class CascadedConcat(nn.Module):
    """Paths of several widths concatenated one after the other."""

    def __init__(self, width: int = 10) -> None:
        super().__init__()

        def layer(times: int, from_: int = 1) -> list[nn.Module]:
            return [nn.Conv2d(from_ * width, times * width, 1), nn.BatchNorm2d(times * width)]

        self.one = nn.Sequential(*layer(1), nn.GELU(), *layer(1))
        self.two = nn.Sequential(*layer(2), nn.GELU(), *layer(2, 2))
        self.three, self.six = nn.Sequential(*layer(3)), nn.Sequential(*layer(6))
        self.out = nn.Conv2d(12 * width, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([self.one(x), self.two(x)], dim=1)
        joined = torch.cat([joined, self.three(x)], dim=1)
        return self.out(torch.cat([joined, self.six(x)], dim=1))


class ConcatSplit(nn.Module):
    """A split whose sizes are read from the layers, a concatenation, and the rest as a residual."""

    def __init__(self, width: int = 10) -> None:
        super().__init__()

        def norm(channels: int) -> nn.BatchNorm2d:
            return nn.BatchNorm2d(channels)

        def point(i: int, o: int) -> nn.Conv2d:
            return nn.Conv2d(i, o, 1)

        self.block = nn.Sequential(
            point(width, width), norm(width), nn.GELU(), point(width, 2 * width), norm(2 * width)
        )
        self.beside = nn.Sequential(point(width, width), norm(width), nn.GELU(), point(width, width), norm(width))
        self.last = nn.Sequential(point(2 * width, width), norm(width))

    def forward(self, x: Tensor) -> Tensor:
        beside, both = self.beside(x), self.block(x)
        first = self.last[0].in_channels - self.beside[-1].num_features
        one, two = torch.split(both, (first, self.block[-1].num_features - first), 1)
        return self.last(torch.cat([one, beside], dim=1)) + two


class Split(nn.Module):
    """A split in three whose first two parts go through the same layers; three outputs."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 1),
            nn.BatchNorm2d(width),
            nn.GELU(),
            nn.Conv2d(width, 4 * width, 1),
            nn.BatchNorm2d(4 * width),
        )
        self.small = nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width))
        self.large = nn.Sequential(nn.Conv2d(2 * width, width, 1), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        small, large = self.small[0].in_channels, self.large[0].in_channels
        a, b, c = torch.split(self.block(x), [small, small, large], dim=1)
        return self.small(a), self.small(b), self.large(c)


class RowsJoined(nn.Module):
    """A concatenation and a split along the height."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()

        def path() -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(width, width, 1),
                nn.BatchNorm2d(width),
                nn.GELU(),
                nn.Conv2d(width, width, 1),
                nn.BatchNorm2d(width),
            )

        self.a, self.b = path(), path()
        self.both, self.last = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        both = self.both(torch.cat([a, b], dim=2))
        first, _ = torch.split(both, [a.shape[2], b.shape[2]], dim=2)
        return self.last(first)


class Dense(nn.Module):
    """Norm-first layers that each add channels to what they read, and narrowing layers between."""

    def __init__(self, growth: int = 8, layers: tuple[int, ...] = (3, 3)) -> None:
        super().__init__()
        width = 2 * growth
        self.stem = conv(3, width)
        self.norms, self.convs, self.rests = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for depth in layers:
            norms, convs = nn.ModuleList(), nn.ModuleList()
            for _ in range(depth):
                norms.append(nn.BatchNorm2d(width))
                convs.append(
                    nn.Sequential(
                        nn.Conv2d(width, 4 * growth, 1), nn.BatchNorm2d(4 * growth), nn.ReLU(), conv(4 * growth, growth)
                    )
                )
                width += growth
            self.norms.append(norms)
            self.convs.append(convs)
            self.rests.append(nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width // 2, 1)))
            width //= 2
        self.norm, self.head = nn.BatchNorm2d(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norms, convs, rest in zip(self.norms, self.convs, self.rests, strict=True):
            for norm, layer in zip(norms, convs, strict=True):
                x = torch.cat([x, layer(F.relu(norm(x)))], dim=1)
            x = F.avg_pool2d(rest(x), 2)
        return self.head(F.relu(self.norm(x)).mean((2, 3)))
