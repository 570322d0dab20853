"""Networks whose output is an image: super-resolution, diffusion, segmentation, generators."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.methods.zoo.parts import conv


class Shift(nn.Conv2d):
    """Adds a colour, as a frozen convolution."""

    def __init__(self, sign: float) -> None:
        super().__init__(3, 3, 1)
        with torch.no_grad():
            self.weight.copy_(torch.eye(3)[:, :, None, None])
            self.bias.copy_(sign * torch.tensor([0.45, 0.44, 0.4]))  # type: ignore[union-attr]
        self.requires_grad_(False)


class ReluResidual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(width, width), nn.ReLU(inplace=True), conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + x)


class Cascade(nn.Module):
    """Three parts, each followed by a pointwise convolution over all that came before it."""

    def __init__(self, parts: list[nn.Module], width: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.joins = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width * (i + 2), width, 1), nn.ReLU(inplace=True)) for i in range(len(parts))
        )

    def forward(self, x: Tensor) -> Tensor:
        passed = x
        for part, join in zip(self.parts, self.joins, strict=True):
            passed = torch.cat([passed, part(x)], dim=1)
            x = join(passed)
        return x


class Upscale(nn.Sequential):
    """By 2 or 3 with a pixel shuffle."""

    def __init__(self, width: int, scale: int) -> None:
        super().__init__(conv(width, scale**2 * width), nn.ReLU(inplace=True), nn.PixelShuffle(scale))


class Carn(nn.Module):
    """Cascades of cascades; how far it scales is told with each call."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.less, self.more = Shift(-1.0), Shift(1.0)
        self.entry, self.exit = conv(3, width), conv(width, 3)
        self.body = Cascade(
            [Cascade([ReluResidual(width) for _ in range(3)], width) for _ in range(3)],
            width,
        )
        self.up2, self.up3 = Upscale(width, 2), Upscale(width, 3)

    def forward(self, x: Tensor, scale: int) -> Tensor:
        x = self.body(self.entry(self.less(x)))
        x = self.up2(x) if scale == 2 else self.up3(x)
        return self.more(self.exit(x))


class SuperResolution(nn.Module):
    """Residual blocks without norms, scaled, and a pixel shuffle."""

    def __init__(self, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        self.entry, self.last = conv(3, width), conv(width, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(conv(width, width), nn.ReLU(), conv(width, width)) for _ in range(depth)
        )
        self.up, self.exit = nn.Sequential(conv(width, 4 * width), nn.PixelShuffle(2)), conv(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = first = self.entry(x)
        for block in self.blocks:
            y = y + 0.1 * block(y)
        return self.exit(self.up(self.last(y) + first))


class Generator(nn.Module):
    """From noise to an image, by transposed convolutions."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        widths = [32, 4 * width, 2 * width, width]
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(itertools.pairwise(widths)):
            stride, padding = (1, 0) if i == 0 else (2, 1)
            layers += [nn.ConvTranspose2d(a, b, 4, stride, padding, bias=False), nn.BatchNorm2d(b), nn.ReLU(True)]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z[:, :, None, None])


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def group_norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(8, width, eps=1e-6)


class TimedBlock(nn.Module):
    """Norm first, with what the time says added between the convolutions."""

    def __init__(self, i: int, o: int, time: int) -> None:
        super().__init__()
        self.norm1, self.conv1, self.time = group_norm(i), conv(i, o), nn.Linear(time, o)
        self.norm2, self.conv2 = group_norm(o), conv(o, o)
        self.short = nn.Conv2d(i, o, 1) if i != o else None

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        y = self.conv1(swish(self.norm1(x)))
        y = y + self.time(swish(time))[:, :, None, None]
        y = self.conv2(swish(self.norm2(y)))
        return (x if self.short is None else self.short(x)) + y


class MapAttention(nn.Module):
    """One head over the places of a map, with a scale from the number of channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = group_norm(width)
        self.q, self.k, self.v, self.out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q, k, v = self.q(y), self.k(y), self.v(y)
        b, c, h, w = q.shape
        q = q.reshape(b, c, h * w).permute(0, 2, 1)
        weights = torch.bmm(q, k.reshape(b, c, h * w)) * (int(c) ** (-0.5))
        weights = F.softmax(weights, dim=2).permute(0, 2, 1)
        y = torch.bmm(v.reshape(b, c, h * w), weights)
        return x + self.out(y.reshape(b, c, h, w))


class Diffusion(nn.Module):
    """A U-Net of timed blocks, with attention at one resolution. The time lies in one more channel of its input.

    Args:
        times: widths of the resolutions, times `width`.
        depth: blocks at each of them on the way down.
    """

    def __init__(
        self, times: tuple[int, ...], depth: int, width: int = 16, attention: int = 16, size: int = 32
    ) -> None:
        super().__init__()
        self.width, time = width, 4 * width
        self.time = nn.ModuleList([nn.Linear(width, time), nn.Linear(time, time)])
        self.entry = conv(3, width)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        now, widths = width, [width]
        for level, factor in enumerate(times):
            blocks = nn.ModuleList()
            for _ in range(depth):
                blocks.append(self._pair(now, factor * width, time, attends=size == attention))
                now = factor * width
                widths.append(now)
            self.down.append(blocks)
            if level < len(times) - 1:
                self.shrink.append(nn.Conv2d(now, now, 3, stride=2))
                widths.append(now)
                size //= 2
        self.middle = nn.ModuleList([TimedBlock(now, now, time), MapAttention(now), TimedBlock(now, now, time)])
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level, factor in reversed(list(enumerate(times))):
            blocks = nn.ModuleList()
            for _ in range(depth + 1):
                blocks.append(self._pair(now + widths.pop(), factor * width, time, attends=size == attention))
                now = factor * width
            self.up.append(blocks)
            if level:
                self.grow.append(conv(now, now))
                size *= 2
        self.norm, self.exit = group_norm(now), conv(now, 3)

    @staticmethod
    def _pair(i: int, o: int, time: int, *, attends: bool) -> nn.ModuleList:
        return nn.ModuleList([TimedBlock(i, o, time), *([MapAttention(o)] if attends else [])])

    def forward(self, x: Tensor) -> Tensor:
        time = self._embedded(x[:, 3:, 0, 0].squeeze(1))
        time = self.time[1](swish(self.time[0](time)))
        passed = [self.entry(x[:, :3])]
        for level, blocks in enumerate(self.down):
            for pair in blocks:
                passed.append(self._through(pair, passed[-1], time))
            if level < len(self.shrink):
                passed.append(self.shrink[level](F.pad(passed[-1], (0, 1, 0, 1))))
        y = self.middle[0](passed[-1], time)
        y = self.middle[2](self.middle[1](y), time)
        for level, blocks in enumerate(self.up):
            for pair in blocks:
                y = self._through(pair, torch.cat([y, passed.pop()], dim=1), time)
            if level < len(self.grow):
                y = self.grow[level](F.interpolate(y, scale_factor=2.0))
        return self.exit(swish(self.norm(y)))

    @staticmethod
    def _through(pair: nn.ModuleList, x: Tensor, time: Tensor) -> Tensor:
        x = pair[0](x, time)
        return pair[1](x) if len(pair) > 1 else x

    def _embedded(self, time: Tensor) -> Tensor:
        half = self.width // 2
        rates = torch.exp(torch.arange(half, dtype=torch.float32, device=time.device) * -(math.log(10000) / (half - 1)))
        angles = time.float()[:, None] * rates[None, :]
        return torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)


class UNet(nn.Module):
    """Down and up again with the maps of the way down beside; up by transposed convolutions or by interpolation."""

    def __init__(self, *, transposed: bool, group_norms: bool = False, width: int = 8) -> None:
        super().__init__()

        def double(i: int, o: int) -> nn.Sequential:
            def norm() -> nn.Module:
                return nn.GroupNorm(4, o) if group_norms else nn.BatchNorm2d(o)

            return nn.Sequential(conv(i, o), norm(), nn.ReLU(), conv(o, o), norm(), nn.ReLU())

        self.downs = nn.ModuleList([double(3, width), double(width, 2 * width), double(2 * width, 4 * width)])
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(2 * w, w, 2, stride=2)
            if transposed
            else nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(2 * w, w, 1))
            for w in (2 * width, width)
        )
        self.joins = nn.ModuleList([double(4 * width, 2 * width), double(2 * width, width)])
        self.out = nn.Conv2d(width, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        passed = []
        for i, down in enumerate(self.downs):
            x = down(x if i == 0 else F.max_pool2d(x, 2))
            passed.append(x)
        passed.pop()
        for up, join in zip(self.ups, self.joins, strict=True):
            x = join(torch.cat([up(x), passed.pop()], dim=1))
        return self.out(x)
