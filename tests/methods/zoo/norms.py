"""Networks of OTO's sanity check in which norms are what makes pruning hard."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.methods.zoo.parts import Head, conv


class JoinedNorms(nn.Module):
    """One convolution under two norms, a sum with another, and a concatenation with what they read, under one norm.

    Args:
        shared: the second convolution is the first one again.
        deeper: two more convolutions over concatenations.
    """

    def __init__(self, *, shared: bool = False, deeper: bool = False, width: int = 16) -> None:
        super().__init__()
        self.shared, self.deeper = shared, deeper
        self.stem, self.stem_norm = conv(3, width), nn.BatchNorm2d(width)
        self.left = conv(width, 2 * width)
        if not shared:
            self.right = conv(width, 2 * width)
        self.norm_a, self.norm_b = nn.BatchNorm2d(2 * width), nn.BatchNorm2d(2 * width)
        self.act = nn.ReLU(inplace=True)
        self.join = conv(3 * width, 4 * width)
        if deeper:
            self.second = conv(6 * width, 8 * width)
        self.norm_c = nn.BatchNorm2d((12 if deeper else 3) * width)
        self.head = Head((12 if deeper else 4) * width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem_norm(self.stem(x)))
        left = self.left(x)
        right = self.left(x) if self.shared else self.right(x)
        both = self.norm_a(left) + self.norm_b(left) + right
        joined = torch.cat([x, both], dim=1)
        if not self.deeper:
            return self.head(self.join(self.norm_c(joined)))
        joined = self.join(joined)
        last = self.second(torch.cat([joined, both], dim=1))
        return self.head(self.norm_c(torch.cat([last, joined], dim=1)))


class InstanceNorms(nn.Module):
    """Convolutions with instance norms and an activation, which may have a parameter for each channel."""

    def __init__(self, *, prelu: bool, width: int = 16) -> None:
        super().__init__()
        widths = [3, width, 2 * width, 4 * width, 8 * width]
        self.convs = nn.ModuleList(conv(i, o) for i, o in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.InstanceNorm2d(o, affine=True) for o in widths[1:])
        self.acts = nn.ModuleList(nn.PReLU(o) if prelu else nn.LeakyReLU() for o in widths[1:])
        self.head = Head(widths[-1])

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm, act in zip(self.convs, self.norms, self.acts, strict=True):
            x = act(norm(layer(x)))
        return self.head(x)


class GroupNorms(nn.Module):
    """Group norms in a row."""

    def __init__(self, width: int = 16, groups: int = 8) -> None:
        super().__init__()
        widths = [3, width, 2 * width, 4 * width, 8 * width]
        self.convs = nn.ModuleList(conv(i, o) for i, o in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.GroupNorm(groups, o) for o in widths[1:])

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.convs, self.norms, strict=True):
            x = F.leaky_relu(norm(layer(x)))
        return x


class GroupNormTwice(nn.Module):
    """The same channels twice, one behind the other, under a group norm whose groups are twice as wide."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = conv(3, 12), nn.GroupNorm(4, 12)
        self.both, self.last = nn.GroupNorm(4, 24), conv(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.norm(self.first(x)))
        return self.last(self.both(torch.cat([x, x], dim=1)))


class GroupNormJoined(nn.Module):
    """A normed and a plain path side by side under one more group norm."""

    def __init__(self, width: int = 32, groups: int = 8) -> None:
        super().__init__()
        self.stem, self.norm_a = conv(3, width), nn.GroupNorm(groups, width)
        self.norm_b = nn.GroupNorm(groups, 2 * width)
        self.left, self.right = conv(2 * width, 3 * width), conv(2 * width, 3 * width)
        self.norm_c, self.norm_d = nn.GroupNorm(groups, 3 * width), nn.GroupNorm(groups, 6 * width)
        self.last = conv(6 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.norm_a(self.stem(x)))
        x = self.norm_b(torch.cat([x, x], dim=1))
        return self.last(self.norm_d(torch.cat([self.norm_c(self.left(x)), self.right(x)], dim=1)))


class GroupNormSummed(nn.Module):
    """Two normed paths over concatenations with the same channels, summed."""

    def __init__(self, width: int = 32, groups: int = 8) -> None:
        super().__init__()
        self.stem, self.norm_a = conv(3, width), nn.GroupNorm(groups, width)
        self.norm_b, self.norm_c, self.norm_d, self.norm_e = (nn.GroupNorm(groups, 2 * width) for _ in range(4))
        self.left, self.middle = conv(2 * width, 2 * width), conv(2 * width, width)
        self.right, self.last = conv(2 * width, 2 * width), conv(2 * width, 18)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.norm_a(self.stem(x)))
        twice = torch.cat([x, x], dim=1)
        left = self.norm_c(self.left(self.norm_b(twice)))
        right = self.norm_e(self.right(self.norm_d(torch.cat([self.middle(twice), x], dim=1))))
        return self.last(left + right)


class Spectral(nn.Module):
    """An encoder and a decoder of residual blocks that begin with a norm, with convolutions on the shortcuts."""

    def __init__(self, width: int = 8, most: int = 32, down: int = 3, up: int = 2) -> None:
        super().__init__()
        self.stem = conv(13, width, 7)
        widths = [min(width * 2**i, most) for i in range(down + 1)]
        self.encoders = nn.ModuleList(NormFirst(widths[i], widths[i + 1], up=False) for i in range(down))
        self.decoders = nn.ModuleList()
        into = widths[-1]
        for i in reversed(range(down - up, down)):
            self.decoders.append(NormFirst(into, widths[i], up=True))
            into = 2 * widths[i]
        self.last = conv(into, into)

    def forward(self, x: Tensor) -> Tensor:
        passed = [self.stem(x)]
        for block in self.encoders:
            passed.append(block(passed[-1]))
        x = passed.pop()
        for block in self.decoders:
            x = torch.cat([block(x), passed.pop()], dim=1)
        return self.last(x)


class NormFirst(nn.Module):
    def __init__(self, i: int, o: int, *, up: bool) -> None:
        super().__init__()
        options = {"stride": 2, "padding": 1} | ({"output_padding": 1} if up else {})
        kind = nn.ConvTranspose2d if up else nn.Conv2d
        self.norm_0, self.norm_1, self.norm_s = nn.BatchNorm2d(i), nn.BatchNorm2d(o), nn.BatchNorm2d(i)
        self.conv_0, self.conv_1, self.conv_s = conv(i, o), kind(o, o, 3, **options), kind(i, o, 3, **options)

    def forward(self, x: Tensor) -> Tensor:
        short = self.conv_s(F.leaky_relu(self.norm_s(x)))
        y = self.conv_0(F.leaky_relu(self.norm_0(x)))
        return short + self.conv_1(F.leaky_relu(self.norm_1(y)))


class NextBlock(nn.Module):
    def __init__(self, width: int, scale: float | None) -> None:
        super().__init__()
        self.each, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gamma = None if scale is None else nn.Parameter(scale * torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.each(x).permute(0, 2, 3, 1)
        y = self.down(F.gelu(self.up(self.norm(y))))
        if self.gamma is not None:
            y = self.gamma * y
        return x + y.permute(0, 3, 1, 2)


class FirstNorm(nn.Module):
    """A layer norm over the second dimension, written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        spread = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(spread + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class ConvNeXt(nn.Module):
    def __init__(self, scale: float | None, widths: tuple[int, ...] = (16, 24, 32), depth: int = 2) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, stride=4), FirstNorm(widths[0]))
        self.downs = nn.ModuleList(
            nn.Sequential(FirstNorm(i), nn.Conv2d(i, o, 2, stride=2)) for i, o in itertools.pairwise(widths)
        )
        self.stages = nn.ModuleList(nn.Sequential(*(NextBlock(w, scale) for _ in range(depth))) for w in widths)
        self.norm, self.head = nn.LayerNorm(widths[-1]), nn.Linear(widths[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages[0](self.stem(x))
        for down, stage in zip(self.downs, self.stages[1:], strict=False):
            x = stage(down(x))
        return self.head(self.norm(x.mean([-2, -1])))
