"""Items of a user's own torch Dataset, as tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from greenprune.bench.data.draw import drawing
from greenprune.bench.data.pictures import decode
from greenprune.bench.text import plural
from PIL import Image
from torch import Tensor

ITEM = "(image, target), the image of Pillow, or a tensor (C, H, W)"


@dataclass(frozen=True)
class Own:
    """Items of a user's Dataset as tensors.

    Attributes:
        of, label: the Dataset, and what to call it.
        shape, dtype: of an image.
    """

    of: Any
    label: str
    shape: tuple[int, int, int]
    dtype: torch.dtype

    def __len__(self) -> int:
        return len(self.of)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.tensors(self.of[index])

    def name(self, index: int) -> str:
        return f"{self.label}[{index}]"

    def pass_through(self, seed: int, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Of an iterable one. Its own order follows from `set_epoch`, where it has that, or from the generators' seed."""
        if hasattr(self.of, "set_epoch"):
            self.of.set_epoch(number)
        with drawing(seed, number):
            for item in self.of:
                yield self.tensors(item)

    def tensors(self, item: Any) -> tuple[Tensor, Tensor]:
        """Raises ValueError: it is no item of the form that the first one has."""
        image, target = pair_of(item)
        shown = image_of(image, self.shape[1], self.shape[0])
        if tuple(shown.shape) != self.shape or shown.dtype != self.dtype:
            raise ValueError(
                f"its image is {shown.dtype} {tuple(shown.shape)}, and that of the first one {self.dtype} {self.shape}"
            )
        return shown, target_of(target)


def pair_of(item: Any) -> tuple[Any, Any]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        has = plural(len(item), "value") if isinstance(item, tuple | list) else f"a {type(item).__name__}"
        raise ValueError(f"is {has}; allowed is {ITEM}")
    return item[0], item[1]


def image_of(value: Any, size: int, channels: int) -> Tensor:
    """(C, H, W), uint8 of this size or float32 as it is. Raises ValueError."""
    if isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 3:
        return value.detach().float()
    if isinstance(value, Tensor) and value.dtype == torch.uint8 and value.ndim == 3:
        if tuple(value.shape) == (channels, size, size):
            return value
        value = value.permute(1, 2, 0).numpy()
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3):
        value = Image.fromarray(value[..., 0] if value.ndim == 3 and value.shape[2] == 1 else value)
    if not isinstance(value, Image.Image):
        what = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor | np.ndarray) else type(value).__name__
        raise ValueError(f"its image is {what}; allowed is {ITEM} in uint8 or floats")
    return torch.from_numpy(np.ascontiguousarray(decode(value, size, channels).transpose(2, 0, 1)))


def target_of(value: Any) -> Tensor:
    """A class () int64, numbers (K,) float32, or a mask (H, W) int64. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number | np.ndarray | Tensor | list | tuple):
        raise ValueError(f"its target is a {type(value).__name__}; allowed is a class, numbers, or a mask of classes")
    found = torch.as_tensor(value)
    if found.ndim == 0:
        return found.long() if not found.is_floating_point() else found.float()[None]
    if found.ndim == 1:
        return found.float()
    if found.is_floating_point() or found.is_complex():  # ToTensor divides by 255: cut off, all would be class 0
        raise ValueError(f"its target is a mask of {found.dtype}; allowed is one of whole numbers, the classes")
    return found.long()
