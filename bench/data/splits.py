"""The parts of a data set: held in memory as tensors, or read item by item when they are needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from greenprune.bench.data.content import tensors_hash
from torch import Tensor


class Items(Protocol):
    """Images with their targets, read one at a time; worker processes get a copy."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """An image (C, H, W), uint8 or as the network takes it in float32, and its target, a tensor of any shape."""

    def name(self, index: int) -> str:
        """To be found by, in a sentence."""


class Stream(Protocol):
    """Images with their targets that come in an order of their own."""

    def __len__(self) -> int: ...

    def pass_through(self, seed: int, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """From the first to the last, as of `Items`, in the epoch of this number."""


class Part(Protocol):
    """What `train`, `holdout` and `test` of a data set have in common.

    Attributes:
        targets: of all images, (N,) int64 for classes; (N, ...) for other tasks; None where they are read with the images.
        shape: (C, H, W) of an image.
        dtype: of the images: uint8, or float32 of those that are taken as they are.
    """

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def targets(self) -> Tensor | None: ...

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def __len__(self) -> int: ...

    def chosen(self, rows: np.ndarray) -> Part:
        """These images alone, in this order."""

    def contents(self) -> str:
        """A hash of what it holds, wherever that lies."""


@dataclass(frozen=True)
class Split:
    """In memory: images (N, C, H, W) uint8 and their targets (N,) int64, or (N, ...) for other tasks than classification.

    Attributes:
        digests: (N,) of what each image was made of; None: of the tensors themselves.
    """

    images: Tensor
    targets: Tensor
    digests: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.targets[index]

    def name(self, index: int) -> str:
        return f"image {index}"

    @property
    def dtype(self) -> torch.dtype:
        return self.images.dtype

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def chosen(self, rows: np.ndarray) -> Split:
        digests = None if self.digests is None else self.digests[rows]
        return Split(self.images[rows], self.targets[rows], digests)

    def contents(self) -> str:
        if self.digests is None:
            return tensors_hash({"images": self.images, "labels": self.targets})
        return _hash_of(self.digests, self.targets)


@dataclass(frozen=True)
class LazySplit:
    """Read when it is needed, by worker processes.

    Attributes:
        items: all that the source has; this part has those of `rows`.
        rows: (N,) int64.
        targets: of the rows, in their order; None where nobody knows them before they are read.
        digests: of the rows.
        workers: processes that read ahead; 0: none, the training waits for each image.
        stream: where the images come in an order of their own, all of them; then `items` is not used.
    """

    items: Items
    rows: np.ndarray
    shape: tuple[int, int, int]
    targets: Tensor | None
    digests: np.ndarray
    workers: int
    stream: Stream | None = None
    dtype: torch.dtype = torch.uint8

    def __len__(self) -> int:
        return len(self.rows)

    def chosen(self, rows: np.ndarray) -> LazySplit:
        targets = None if self.targets is None else self.targets[rows]
        digests = self.digests[rows] if len(self.digests) == len(self.rows) else self.digests
        return replace(self, rows=self.rows[rows], targets=targets, digests=digests)

    def contents(self) -> str:
        if len(self.digests) == len(self.rows):
            return _hash_of(self.digests, self.targets)
        rows = np.array([hashlib.sha256(self.rows.tobytes()).hexdigest()])
        return _hash_of(np.concatenate([self.digests, rows]), self.targets)


def target_of_one(split: Part) -> Tensor:
    """The target of one image: of no dimension for a class or a number, of two for a mask. Read where nobody knows it."""
    if split.targets is not None:
        return split.targets[0]
    assert isinstance(split, LazySplit)  # what is in memory has its targets
    if split.stream is not None:
        return next(split.stream.pass_through(0, 0))[1]
    return split.items[int(split.rows[0])][1]


def _hash_of(digests: np.ndarray, targets: Tensor | None) -> str:
    found = hashlib.sha256("\n".join(digests.tolist()).encode())
    if targets is not None:
        found.update(tensors_hash({"targets": targets}).encode())
    return found.hexdigest()


def held(split: LazySplit) -> Split:
    """The same in memory; what was read together keeps its order."""
    stream = split.stream
    found = (split.items[int(row)] for row in split.rows) if stream is None else stream.pass_through(0, 0)
    images, targets = zip(*found, strict=True)
    digests = split.digests if len(split.digests) == len(split.rows) else None
    return Split(torch.stack(list(images)), torch.stack(list(targets)), digests)


def by_class(targets: Tensor) -> list[np.ndarray]:
    """The rows of each class in turn; one list with all where targets are no classes."""
    if targets.dtype != torch.int64 or targets.ndim != 1:
        return [np.arange(len(targets))]
    labels = targets.numpy()
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]
