"""Networks of the kinds in OTO's sanity check and Torch-Pruning's tests that are made of convolutions, norms and joins."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(i: int, o: int, k: int = 3, **options: int) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, padding=k // 2, **options)


class Head(nn.Module):
    """Two linear layers on the mean over the image."""

    def __init__(self, width: int, classes: int = 10) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(width, width // 2), nn.Linear(width // 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(x, 1)
        return self.out(self.hidden(x.view(x.size(0), -1)))


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


class WideDeep(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, o in ((width, 32), (32, 16)):
            layers += [nn.Linear(i, o), nn.BatchNorm1d(o), nn.ReLU(), nn.Dropout(0.2)]
        self.deep = nn.Sequential(*layers, nn.Linear(16, 1))
        self.wide, self.out = nn.Linear(width, 3), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(x.shape[0], -1)
        return torch.sigmoid(self.out(torch.concat([self.wide(x), self.deep(x)], dim=-1)))


class Scaled(nn.Module):
    """A layer of one's own: divides by the length of its input, scales, shifts, and has a linear layer inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.scale, self.bias = nn.Parameter(torch.rand(width) + 0.5), nn.Parameter(torch.randn(width))
        self.fc = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.div(x, x.pow(2).sum(dim=1, keepdim=True).sqrt())
        return self.fc(x * self.scale + self.bias)


class OwnLayer(nn.Module):
    def __init__(self, width: int = 64, *, unused: bool = False) -> None:
        super().__init__()
        self.first, self.own, self.last = nn.Linear(32, width), Scaled(width), nn.Linear(width, 10)
        if unused:
            self.unused = nn.Parameter(torch.zeros(10))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.own(F.relu(self.first(x))))


class Perceptron(nn.Module):
    """Linear layers with a shortcut."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(32, width), nn.Linear(width, width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        return self.c(F.relu(self.b(x)) + x)


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


class TwoInputs(nn.Module):
    """Two inputs with a layer each; returns both hidden layers and the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(32, 32), nn.Linear(16, 24), nn.Linear(56, 10)

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, b = F.relu(self.first(x1)), F.relu(self.second(x2))
        return a, b, F.relu(self.last(torch.cat([a, b], dim=1)))


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


class Reshaped(nn.Module):
    """A linear layer whose output becomes maps of a width that is read from the layer behind it."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 16 * width)
        self.up_1 = nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1)
        self.up_2 = nn.ConvTranspose2d(width // 2, width // 4, 4, stride=2, padding=1)
        self.last = nn.Linear(width // 4 * 256, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.linear(x)).view(-1, self.up_1.in_channels, 4, 4)
        x = F.relu(self.up_2(F.relu(self.up_1(x))))
        return self.last(torch.flatten(x, 1))


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
