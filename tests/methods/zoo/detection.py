"""Detectors of the YOLO kind: blocks that split or concatenate, a pyramid, and heads at three resolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNorm(nn.Module):
    def __init__(self, i: int, o: int, k: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(i, o, k, stride, k // 2, bias=False), nn.BatchNorm2d(o)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, width: int, *, adds: bool) -> None:
        super().__init__()
        self.cv1, self.cv2, self.adds = ConvNorm(width, width), ConvNorm(width, width, 3), adds

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cv2(self.cv1(x)) if self.adds else self.cv2(self.cv1(x))


class C3(nn.Module):
    """Bottlenecks on one of two paths, concatenated."""

    def __init__(self, i: int, o: int, *, adds: bool = True) -> None:
        super().__init__()
        half = o // 2
        self.cv1, self.cv2, self.cv3 = ConvNorm(i, half), ConvNorm(i, half), ConvNorm(2 * half, o)
        self.m = nn.Sequential(Bottleneck(half, adds=adds))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class C2f(nn.Module):
    """A convolution cut in two, bottlenecks behind the second half, and all of them concatenated."""

    def __init__(self, i: int, o: int, *, adds: bool = True, depth: int = 2) -> None:
        super().__init__()
        self.c = o // 2
        self.cv1, self.cv2 = ConvNorm(i, 2 * self.c), ConvNorm((2 + depth) * self.c, o)
        self.m = nn.ModuleList(Bottleneck(self.c, adds=adds) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).chunk(2, 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


class Pools(nn.Module):
    """The same pooling three times, all of it concatenated."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = ConvNorm(width, width // 2), ConvNorm(2 * width, width)
        self.m = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        a = self.m(x)
        b = self.m(a)
        return self.cv2(torch.cat((x, a, b, self.m(b)), 1))


class AnchorHead(nn.Module):
    """Boxes for three anchors at each place; in training the maps alone, else (boxes, maps)."""

    def __init__(self, widths: list[int], classes: int) -> None:
        super().__init__()
        self.outputs, self.anchors = classes + 5, 3
        self.m = nn.ModuleList(nn.Conv2d(w, self.outputs * self.anchors, 1) for w in widths)
        self.register_buffer("sizes", torch.rand(len(widths), 3, 2) + 0.5)

    def forward(self, maps: list[Tensor]) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        boxes = []
        for i, layer in enumerate(self.m):
            x = layer(maps[i])
            b, _, h, w = x.shape
            maps[i] = x = x.view(b, self.anchors, self.outputs, h, w).permute(0, 1, 3, 4, 2).contiguous()
            if not self.training:
                ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
                grid = torch.stack((xs, ys), 2).expand(1, self.anchors, h, w, 2).to(x)
                xy, wh, rest = x.sigmoid().split((2, 2, self.outputs - 4), 4)
                size = self.sizes[i].view(1, self.anchors, 1, 1, 2)
                y = torch.cat((xy * 2 - 0.5 + grid, (wh * 2) ** 2 * size, rest), 4)
                boxes.append(y.view(b, self.anchors * h * w, self.outputs))
        return maps if self.training else (torch.cat(boxes, 1), maps)


class FreeHead(nn.Module):
    """Distances as distributions and classes, by convolutions of their own; in training the maps alone."""

    def __init__(self, widths: list[int], classes: int, bins: int = 4) -> None:
        super().__init__()
        self.classes, self.bins = classes, bins
        c2, c3 = 16, 16
        self.cv2 = nn.ModuleList(
            nn.Sequential(ConvNorm(w, c2, 3), ConvNorm(c2, c2, 3), nn.Conv2d(c2, 4 * bins, 1)) for w in widths
        )
        self.cv3 = nn.ModuleList(
            nn.Sequential(ConvNorm(w, c3, 3), ConvNorm(c3, c3, 3), nn.Conv2d(c3, classes, 1)) for w in widths
        )
        self.dfl = nn.Conv2d(bins, 1, 1, bias=False).requires_grad_(False)
        with torch.no_grad():
            self.dfl.weight.copy_(torch.arange(bins, dtype=torch.float).view(1, bins, 1, 1))

    def forward(self, maps: list[Tensor]) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        for i in range(len(maps)):
            maps[i] = torch.cat((self.cv2[i](maps[i]), self.cv3[i](maps[i])), 1)
        if self.training:
            return maps
        batch, outputs = maps[0].shape[0], 4 * self.bins + self.classes
        joined = torch.cat([m.view(batch, outputs, -1) for m in maps], 2)
        box, classes = joined.split((4 * self.bins, self.classes), 1)
        places = box.shape[-1]
        box = box.view(batch, 4, self.bins, places).transpose(2, 1).softmax(1)
        box = self.dfl(box).view(batch, 4, places)
        low, high = box.chunk(2, 1)
        return torch.cat((high - low, high + low, classes.sigmoid()), 1), maps


class Yolo(nn.Module):
    """Backbone, a pyramid down and up, and a head.

    Args:
        block: C3 or C2f.
        head: AnchorHead or FreeHead.
    """

    def __init__(self, block: type[nn.Module], head: type[nn.Module], width: int = 8, classes: int = 3) -> None:
        super().__init__()
        w1, w2, w3, w4 = width, 2 * width, 4 * width, 8 * width
        self.stem = nn.Sequential(ConvNorm(3, w1, 3, 2), ConvNorm(w1, w2, 3, 2), block(w2, w2))
        self.three = nn.Sequential(ConvNorm(w2, w2, 3, 2), block(w2, w2))
        self.four = nn.Sequential(ConvNorm(w2, w3, 3, 2), block(w3, w3))
        self.five = nn.Sequential(ConvNorm(w3, w4, 3, 2), block(w4, w4), Pools(w4))
        self.up = nn.Upsample(scale_factor=2)
        self.up4, self.up3 = block(w4 + w3, w3, adds=False), block(w3 + w2, w2, adds=False)
        self.down3, self.down4 = ConvNorm(w2, w2, 3, 2), ConvNorm(w3, w3, 3, 2)
        self.out4, self.out5 = block(w2 + w3, w3, adds=False), block(w3 + w4, w4, adds=False)
        self.head = head([w2, w3, w4], classes)

    def forward(self, x: Tensor) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        three = self.three(self.stem(x))
        four = self.four(three)
        five = self.five(four)
        mid = self.up4(torch.cat([self.up(five), four], 1))
        small = self.up3(torch.cat([self.up(mid), three], 1))
        mid = self.out4(torch.cat([self.down3(small), mid], 1))
        large = self.out5(torch.cat([self.down4(mid), five], 1))
        return self.head([small, mid, large])


class C2fClassifier(nn.Module):
    """C2f blocks and a linear layer."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ConvNorm(3, width, 3, 2),
            C2f(width, width),
            ConvNorm(width, 2 * width, 3, 2),
            C2f(2 * width, 2 * width, depth=3),
            Pools(2 * width),
        )
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x).mean((2, 3)))


def boxes(output: tuple[Tensor, list[Tensor]] | list[Tensor]) -> Tensor:
    """One tensor of what a detector gives."""
    if isinstance(output, tuple):
        return output[0]
    return torch.cat([m.flatten(1) for m in output], 1)


def means(output: tuple[Tensor, list[Tensor]] | list[Tensor]) -> Tensor:
    """The means of the maps, side by side."""
    maps = output[1] if isinstance(output, tuple) else output
    return torch.cat([m.flatten(2).mean(2) for m in maps], 1)
