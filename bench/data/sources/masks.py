"""Pictures with masks: `images/a.jpg` and `masks/a.png`, or both in `train/`, `val/` and `test/`.

A mask has one channel (or a palette) whose values are the classes; 255 counts for nothing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from greenprune.bench.data.content import file_hash
from greenprune.bench.data.found import Files, Found, Listing
from greenprune.bench.data.options import DataOptions
from greenprune.bench.data.pictures import PictureError, first_line, is_of_machine, scaled, suffixes
from greenprune.bench.data.pixels import VOID
from greenprune.bench.data.sources.folder import beside_parts, files_below, parts_of
from greenprune.bench.errors import UserError
from PIL import Image, ImageOps

IMAGES, MASKS = "images", "masks"


def is_one(folder: Path) -> bool:
    places = [folder, *parts_of(folder).values()] if folder.is_dir() else []
    return any((place / IMAGES).is_dir() and (place / MASKS).is_dir() for place in places)


def find(folder: Path, options: DataOptions) -> Found:
    """Raises UserError: a picture has no mask, a mask cannot be read, or has a value that is no class."""
    parts, notes = {"train": folder}, []
    if not (folder / IMAGES).is_dir():
        parts = parts_of(folder)
        notes = beside_parts(folder, parts)
    read = {part: _pairs(folder, place, options) for part, place in parts.items()}
    classes = options.classes or 1 + max(int(m[m != VOID].max(initial=0)) for _, _, m in read.values())
    listings = {}
    for part, (paths, digests, masks) in read.items():
        wrong = (masks != VOID) & (masks >= classes)
        if wrong.any():
            row, y, x = (int(found[0]) for found in np.nonzero(wrong))
            raise UserError(
                f"{folder / paths[row]}: its mask has the value {int(masks[row, y, x])}; allowed is 0 to {classes - 1}, and "
                f"{VOID} for what does not count"
            )
        targets = torch.from_numpy(masks).long()
        listings[part] = Listing(Files(folder, tuple(paths)), targets, np.array(digests, dtype="U64"))
    names = tuple(str(number) for number in range(classes))
    return Found(str(folder), listings, names, tuple(notes))


def _pairs(folder: Path, place: Path, options: DataOptions) -> tuple[list[str], list[str], np.ndarray]:
    """The pictures relative to `folder`, what they and their masks hold, and the masks (N, H, W) uint8."""
    known = suffixes()
    images = [path for path in files_below(place / IMAGES) if path.suffix.lower() in known]
    masks = {path.relative_to(place / MASKS).with_suffix(""): path for path in files_below(place / MASKS)}
    if not images:
        raise UserError(
            f"{place / IMAGES}: has no pictures; allowed are pictures, each with a mask of its name in masks/"
        )
    paths, digests, read = [], [], []
    for path in images:
        name = path.relative_to(place / IMAGES).with_suffix("")
        if name not in masks:
            raise UserError(f"{path}: there is no mask of its name in {place / MASKS}; allowed is one for each picture")
        try:
            read.append(_mask(masks[name], path, options.size))
        except PictureError as e:
            raise UserError(
                f"{masks[name]}: the mask {e}; allowed is a picture of one channel, as large as its image"
            ) from e
        paths.append(path.relative_to(folder).as_posix())
        both = f"{file_hash(path)} {file_hash(masks[name])}"
        digests.append(hashlib.sha256(both.encode()).hexdigest())
    return paths, digests, np.stack(read)


def _mask(path: Path, image: Path, size: int) -> np.ndarray:
    """(size, size) uint8, cut and scaled as its picture is; void where nobody can say how large that one is.

    Such a picture is told of when all are looked at.

    Raises:
        PictureError: the mask cannot be used.
        OSError, MemoryError: the picture cannot be read for the moment.
    """
    try:
        with Image.open(image) as picture:
            turned, shape = picture.getexif(), picture.size
    except Exception as e:  # on damaged bytes Pillow's plugins raise almost anything
        if is_of_machine(e):
            raise
        return np.full((size, size), VOID, dtype=np.uint8)
    try:
        with Image.open(path) as opened:
            if opened.mode not in ("L", "P", "1"):
                raise PictureError(f"has pixels of the kind {opened.mode}")
            if opened.size != shape:
                raise PictureError(f"has {opened.size[0]}×{opened.size[1]} pixels, and its image {shape[0]}×{shape[1]}")
            mask: Image.Image = opened
            mask = mask.convert("L").point(lambda value: min(value, 1)) if mask.mode == "1" else mask
            mask.getexif()[ORIENTATION] = turned.get(ORIENTATION, 1)
            return np.array(scaled(ImageOps.exif_transpose(mask), size, Image.Resampling.NEAREST))
    except PictureError:
        raise
    except Exception as e:  # on damaged bytes Pillow's plugins raise almost anything
        raise PictureError(f"cannot be decoded: {first_line(e)}") from e


ORIENTATION = 0x0112
"""The tag of EXIF."""
