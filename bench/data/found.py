"""What a source finds: pictures that are not decoded yet, with their targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from greenprune.bench.data.pictures import decode
from torch import Tensor

PARTS = ("train", "holdout", "test")

PART_NAMES = {
    "train": "train", "training": "train",
    "val": "holdout", "valid": "holdout", "validation": "holdout", "dev": "holdout", "holdout": "holdout",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What the parts of a data set are called by those who publish them."""


class Pictures(Protocol):
    """Pictures as they are stored; worker processes get a copy."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """To be found by, in a sentence: a file, or a row of one."""

    def source(self, index: int) -> Path | bytes:
        """What Pillow opens."""


@dataclass(frozen=True)
class Listing:
    """The pictures of one part.

    Attributes:
        targets: (N, ...) of each picture.
        digests: (N,) SHA-256 of each, as text.
    """

    pictures: Pictures
    targets: Tensor
    digests: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    def chosen(self, rows: np.ndarray) -> Listing:
        return replace(
            self, pictures=Chosen(self.pictures, rows), targets=self.targets[rows], digests=self.digests[rows]
        )


@dataclass(frozen=True)
class Chosen:
    """Some of other pictures."""

    of: Pictures
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        return self.of.name(int(self.rows[index]))

    def source(self, index: int) -> Path | bytes:
        return self.of.source(int(self.rows[index]))


@dataclass(frozen=True)
class Files:
    """Pictures that are files of their own.

    Attributes:
        paths: relative to `folder`.
    """

    folder: Path
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return self.paths[index]

    def source(self, index: int) -> Path:
        return self.folder / self.paths[index]


@dataclass(frozen=True)
class Found:
    """What a source has.

    Attributes:
        place: to begin a sentence with.
        listings: by part, "train" always; parts that the source does not have are cut from it.
        class_names: by label.
        notes: what a reader of the results has to know.
    """

    place: str
    listings: Mapping[str, Listing]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decoded:
    """Pictures as images of one size, decoded when asked for."""

    pictures: Pictures
    targets: Tensor
    size: int
    channels: int

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """(C, size, size) uint8 and its target. Raises PictureError."""
        pixels = decode(self.pictures.source(index), self.size, self.channels)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))), self.targets[index]

    def name(self, index: int) -> str:
        return self.pictures.name(index)
