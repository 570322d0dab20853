"""Tables of learned positions, fitted to images of another size than the weights were trained on.

As in Dosovitskiy et al. 2021 (arXiv 2010.11929, section 3.2): the table is a picture with one pixel a patch, scaled as one.
"""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor

FIRST = (0, 1, 2)
"""Rows before those of the patches: for the class token, and for that of distillation."""

PART = "pos"
"""In the name of every such table: `pos_embed`, `pos_embedding`, `positions`, `position_embeddings`."""


def fitted(name: str, given: Tensor, own: Tensor, image: tuple[int, int]) -> Tensor | None:
    """The given table with a row for each patch of the images here.

    Args:
        name: of the tensor.
        given: (1, N, D) or (N, D); the patches lie in a square, row by row, behind up to two rows of other tokens.
        own: of the network here, whose patches are squares of pixels.
        image: its height and width in pixels.

    Returns:
        A tensor of the shape of `own`; None where this is no such table.
    """
    if PART not in name or not 2 <= given.dim() == own.dim() <= 3 or not given.is_floating_point():
        return None
    if given.shape[-1] != own.shape[-1] or (given.dim() == 3 and (len(given), len(own)) != (1, 1)):
        return None
    for first in FIRST:
        side, grid = _square(given.shape[-2] - first), _grid(own.shape[-2] - first, image)
        if side and grid:
            return _scaled(given, first, side, grid)
    return None


def _square(patches: int) -> int | None:
    """The side of a square of so many."""
    return isqrt(patches) if patches > 0 and isqrt(patches) ** 2 == patches else None


def _grid(patches: int, image: tuple[int, int]) -> tuple[int, int] | None:
    """Rows and columns of so many square patches in the image."""
    height, width = image
    if patches <= 0 or (side := isqrt(height * width // patches)) == 0:
        return None
    found = height // side, width // side
    return found if found[0] * found[1] == patches else None


def _scaled(given: Tensor, first: int, side: int, grid: tuple[int, int]) -> Tensor:
    rows = given.reshape(-1, given.shape[-1])
    picture = rows[first:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    picture = torch.nn.functional.interpolate(picture, size=grid, mode="bicubic", antialias=True, align_corners=False)
    scaled = picture.flatten(2)[0].T.to(given.dtype)
    return torch.cat([rows[:first], scaled]).reshape(*given.shape[:-2], -1, given.shape[-1])
