"""Data sets that are not here, as they were published: as many images, classes and pixels, and nothing in them.

A plan needs no more. CIFAR: Krizhevsky 2009. Tiny ImageNet: Stanford CS231n. ImageNet: Russakovsky et al. 2015, ILSVRC 2012.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from greenprune.bench.data.data import HOLDOUT_SHARE, Dataset
from greenprune.bench.data.names import CLASSES
from greenprune.bench.data.options import Entry, as_options
from greenprune.bench.data.splits import LazySplit
from torch import Tensor

IMAGES = {
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "tiny-imagenet": (100_000, 10_000),
    "imagenet": (1_281_167, 50_000),
}
"""To train on, and to test with."""


@dataclass(frozen=True)
class Blank:
    """As of `Items`: grey images, of each class in turn."""

    count: int
    classes: int
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.full(self.shape, 128, dtype=torch.uint8), torch.tensor(index % self.classes)

    def name(self, index: int) -> str:
        return f"image {index}"


def as_published(entry: Entry) -> Dataset | None:
    """The data set that a suite names, without its images; None where nothing is published of it."""
    options = as_options(entry)
    if options.folder or options.factory or options.name not in IMAGES:
        return None
    train, test = IMAGES[options.name]
    held_out = round(HOLDOUT_SHARE * train)
    classes, shape = CLASSES[options.name], (options.channels, options.size, options.size)
    grey = (0.5,) * options.channels
    note = "not here: planned with as many images as were published"
    return Dataset(
        name=options.name,
        classes=classes,
        train=_blank(train - held_out, classes, shape),
        holdout=_blank(held_out, classes, shape),
        test=_blank(test, classes, shape),
        mean=options.mean or grey,
        std=options.std or grey,
        flip=options.flip,
        notes=(note,),
    )


def _blank(count: int, classes: int, shape: tuple[int, int, int]) -> LazySplit:
    rows = np.arange(count)
    return LazySplit(
        Blank(count, classes, shape), rows, shape, torch.from_numpy(rows % classes), np.array(["nothing"]), workers=0
    )
