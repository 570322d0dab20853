"""A data set: images of one size with their targets, split into training, held-out and test set.

Decisions (which epoch, which setting) look at `holdout`; `test` is for the end of a run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from greenprune.bench.data.content import tensors_hash
from greenprune.bench.data.splits import LazySplit, Part, Split, by_class
from greenprune.bench.errors import UserError
from torch import Tensor

HOLDOUT_SHARE = 0.1
TEST_SHARE = 0.2
SPLIT_SEED = 20_160  # fixed: runs with different seeds must not disagree about what is held out

Channels = tuple[float, ...]
"""A figure of each channel."""


@dataclass(frozen=True)
class Dataset:
    """One data set.

    Attributes:
        classes: outputs that a network needs: labels are 0 .. classes - 1, or targets have so many numbers.
        train, holdout: of a set without a held-out part of its own nine tenths and one tenth of the training images.
        mean, std: per channel, of pixels scaled to 0..1; images are normalised with them.
        flip: whether a mirrored image still shows its class.
        padding: in pixels, for random crops that leave the object in the picture.
        notes: what a reader of the results has to know, e.g. that this is only a slice of the dataset.
        class_names: by label; empty where they have none.
        given: whether mean and std were said by the user; else they were measured on the training images.
    """

    name: str
    classes: int
    train: Part
    holdout: Part
    test: Part
    mean: Channels
    std: Channels
    flip: bool = True
    padding: int = 4
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    given: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self.train.shape

    @property
    def floats(self) -> bool:
        """Whether its images come as floats, which a network is given as they are."""
        return self.train.dtype != torch.uint8

    @property
    def image_size(self) -> int:
        return self.shape[1]

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def images(self) -> dict[str, int]:
        """How many each part has."""
        return {"train": len(self.train), "holdout": len(self.holdout), "test": len(self.test)}


def content_hash(data: Dataset, parts: tuple[str, ...] = ("train", "holdout", "test")) -> str:
    """SHA-256 of the images and targets of these parts, and of what is done to them. 0.3 s for CIFAR.

    Of what was read from files it is the files' contents that count, wherever they lie and whatever they are called, in
    memory or not.
    """
    splits: dict[str, Part] = {part: getattr(data, part) for part in parts}
    if all(isinstance(split, Split) and split.digests is None for split in splits.values()):
        tensors: dict[str, Tensor] = {}
        for part, split in splits.items():
            assert isinstance(split, Split)
            tensors |= {f"{part}.images": split.images, f"{part}.labels": split.targets}
        about: tuple[object, ...] = (data.name, data.classes, data.mean, data.std, data.padding, data.flip)
        return hashlib.sha256(f"{about} {tensors_hash(tensors)}".encode()).hexdigest()
    normalisation = (data.mean, data.std) if data.given else None  # measured ones follow from the files
    about = (data.classes, data.class_names, data.shape, normalisation, data.padding, data.flip)
    contents = {part: split.contents() for part, split in splits.items()}
    return hashlib.sha256(f"{about} {contents}".encode()).hexdigest()


def limited(data: Dataset, count: int) -> Dataset:
    """`data` with `count` of its training images, every class alike, always the same ones; the rest of it stays.

    Raises:
        UserError: there are not as many, they are fewer than the classes, or they can only be gone through in their order.
    """
    if count == len(data.train):
        return data
    targets = data.train.targets
    groups = [np.arange(len(data.train))] if targets is None else by_class(targets)
    if not len(groups) <= count < len(data.train):
        each = f", at least one of each of its {len(groups)} classes" if len(groups) > 1 else ""
        raise UserError(
            f"train_images = {count}: allowed is {len(groups)} to {len(data.train)}, the training images of {data.name}{each}"
        )
    if isinstance(data.train, LazySplit) and data.train.stream is not None:
        raise UserError(
            f"train_images = {count}: {data.name} is an IterableDataset, of which no part can be chosen; allowed is a suite "
            "without train_images"
        )
    random = np.random.RandomState(SPLIT_SEED)
    place = np.empty(len(data.train))  # of each image within its class, from 0 to 1
    for group in groups:
        rows = random.permutation(group)
        place[rows] = np.arange(len(rows)) / len(rows)
    train = data.train.chosen(np.sort(np.argsort(place, kind="stable")[:count]))
    note = f"{count:,} of {len(data.train):,} training images (train_images of the suite)"
    return replace(data, train=train, notes=(*data.notes, note))


def stratified(split: Split, share: float) -> tuple[Split, Split]:
    """The rest, and a random `share` of every class (rounded, of two images or more at least one); order is kept.

    Always the same for the same labels: `RandomState` is the generator whose stream NumPy has promised not to change.
    """
    random = np.random.RandomState(SPLIT_SEED)
    taken = np.zeros(len(split), dtype=bool)
    for group in by_class(split.targets):
        rows = random.permutation(group)
        count = max(round(share * len(rows)), 1) if len(rows) > 1 else 0
        taken[rows[:count]] = True
    return split.chosen(np.flatnonzero(~taken)), split.chosen(np.flatnonzero(taken))


def by_content(digests: np.ndarray, groups: list[np.ndarray], share: float) -> np.ndarray:
    """(N,) bool: a `share` of every group, rounded, of two different pictures or more at least one.

    Which ones follows from what the pictures hold alone: not from their names or order, and copies of one picture are on
    the same side. Where a picture is in several groups, all are taken that one group takes.
    """
    taken = np.zeros(len(digests), dtype=bool)
    for rows in groups:
        own = digests[rows]
        different = np.unique(own)  # sorted by hash, which is as good as drawn
        count = max(round(share * len(different)), 1) if len(different) > 1 else 0
        taken[rows[np.isin(own, different[:count])]] = True
    return np.isin(digests, digests[taken])
