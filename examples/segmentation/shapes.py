"""Pictures of circles, squares and triangles on textured ground, their masks, and a small U-Net that finds them.

    greenprune run examples/segmentation/shapes.toml --out out

Colours say nothing of the class, and shapes hide each other: what a pixel belongs to shows in outlines alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

SIDE = 40
CLASSES = ("ground", "circle", "square", "triangle")
COUNTS = {"train": 500, "holdout": 60, "test": 200}


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """So many pictures (N, 3, SIDE, SIDE) uint8, and their masks (N, SIDE, SIDE) int64."""
    random = np.random.default_rng(seed)
    pairs = [picture(random) for _ in range(count)]
    images, masks = (np.stack(parts) for parts in zip(*pairs, strict=True))
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(masks)


def picture(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One picture (SIDE, SIDE, 3) uint8, and its mask (SIDE, SIDE) int64."""
    image = texture(random)
    mask = np.zeros((SIDE, SIDE), dtype=np.int64)
    for _ in range(random.integers(1, 4)):
        label = int(random.integers(1, len(CLASSES)))
        inside = shape(label, random)
        image[inside] = 0.1 * image[inside] + 0.9 * random.uniform(0, 1, 3)
        mask[inside] = label
    image += random.normal(0, 0.02, image.shape)
    return (255 * image.clip(0, 1)).astype(np.uint8), mask


def texture(random: np.random.Generator) -> np.ndarray:
    """Stripes and blotches (SIDE, SIDE, 3) of two colours, from 0 to 1."""
    y, x = np.mgrid[:SIDE, :SIDE]
    angle, width = random.uniform(0, np.pi), random.uniform(4, 14)
    stripes = 0.5 + 0.5 * np.sin((np.cos(angle) * x + np.sin(angle) * y) * 2 * np.pi / width + random.uniform(0, 6))
    blotches = np.kron(random.uniform(0, 1, (SIDE // 8, SIDE // 8)), np.ones((8, 8)))
    share = (0.5 * stripes + 0.5 * blotches)[..., None]
    first, second = random.uniform(0, 1, (2, 3))
    return share * first + (1 - share) * (0.6 * first + 0.4 * second)  # of little contrast


def shape(label: int, random: np.random.Generator) -> np.ndarray:
    """The pixels (SIDE, SIDE) bool of a shape of this class, of any size, place and direction."""
    y, x = np.mgrid[:SIDE, :SIDE]
    size, angle = random.uniform(6, 12), random.uniform(0, 2 * np.pi)
    x, y = x - random.uniform(size, SIDE - size), y - random.uniform(size, SIDE - size)
    x, y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    if CLASSES[label] == "circle":
        return x**2 + y**2 < (0.9 * size) ** 2
    if CLASSES[label] == "square":
        return (np.abs(x) < 0.8 * size) & (np.abs(y) < 0.8 * size)
    return (y > -0.6 * size) & (y < 0.9 * size - 1.7 * np.abs(x))


def pictures() -> dict[str, Any]:
    """The data set, always the same."""
    parts = {part: TensorDataset(*drawn(count, seed)) for seed, (part, count) in enumerate(COUNTS.items())}
    return {**parts, "class_names": CLASSES}


class Block(nn.Module):
    """Two convolutions of 3×3, each with batch normalisation."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)
        self.third, self.fourth = nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.second(self.first(x)))
        return torch.relu(self.fourth(self.third(x)))


class UNet(nn.Module):
    """Down three times and up again, with what was seen on the way down beside it (Ronneberger et al. 2015)."""

    def __init__(self, classes: int, width: int = 12) -> None:
        super().__init__()
        self.down1, self.down2, self.down3 = Block(3, width), Block(width, 2 * width), Block(2 * width, 4 * width)
        self.bottom = Block(4 * width, 4 * width)
        self.up3, self.up2, self.up1 = Block(8 * width, 2 * width), Block(4 * width, width), Block(2 * width, width)
        self.pool, self.grow = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.down2(self.pool(one))
        three = self.down3(self.pool(two))
        found = self.bottom(self.pool(three))
        found = self.up3(torch.cat([self.grow(found), three], dim=1))
        found = self.up2(torch.cat([self.grow(found), two], dim=1))
        found = self.up1(torch.cat([self.grow(found), one], dim=1))
        return self.head(found)


def unet(classes: int) -> nn.Module:
    return UNet(classes)
