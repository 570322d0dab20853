"""A folder of class folders: `cats/1.jpg`, `dogs/2.png`; or such folders in `train/`, `val/` and `test/`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from greenprune.bench.data.content import file_hashes
from greenprune.bench.data.found import PART_NAMES, Files, Found, Listing
from greenprune.bench.data.options import DataOptions
from greenprune.bench.data.pictures import suffixes
from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.text import plural

IGNORED = ("__MACOSX", "lost+found")
LEAST_CLASSES = 2


def is_one(folder: Path) -> bool:
    """Whether it has folders."""
    return bool(subfolders(folder))


def find(folder: Path, options: DataOptions) -> Found:
    """The pictures of `folder`.

    Raises:
        UserError: it has no class folders, one of them is empty, or the parts have different classes.
    """
    parts = parts_of(folder) or {"train": folder}
    classes = {part: [path.name for path in subfolders(place)] for part, place in parts.items()}
    names = classes["train"]
    if len(names) < LEAST_CLASSES:
        has = f"has one class folder alone ({names[0]})" if names else "has no class folders"
        raise UserError(f"{parts['train']}: {has}; allowed is a folder for each class, two or more, with its pictures")
    for part, own in classes.items():
        _refuse_other_classes(parts[part], own, names)
    other = 0
    listings = {}
    for part, place in parts.items():
        paths, labels, left_out = pictures(folder, place, names)
        listings[part] = listing(folder, paths, labels)
        other += left_out
    notes = () if not other else (f"{other:,} files of {folder.name} are no pictures by their names, and left out",)
    return Found(str(folder), listings, tuple(names), notes)


def parts_of(folder: Path) -> dict[str, Path]:
    """The folders of the parts, by part; empty where there is none for training.

    Where there are pictures for validation alone beside those for training, they are the test set.
    """
    found: dict[str, Path] = {}
    for path in subfolders(folder):
        part = PART_NAMES.get(path.name.lower())
        if part is not None and part in found:
            raise UserError(
                f"{folder}: {found[part].name} and {path.name} are both for the same part; allowed is one of them"
            )
        if part is not None:
            found[part] = path
    if "train" not in found:
        return {}
    if "test" not in found and "holdout" in found:
        found["test"] = found.pop("holdout")
    return found


def subfolders(folder: Path) -> list[Path]:
    """Those that are not hidden, by name."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name not in IGNORED)


def listing(folder: Path, paths: Sequence[str], labels: Sequence[int]) -> Listing:
    """Of files below `folder`. Raises UserError: one cannot be read."""
    try:
        digests = np.array(file_hashes([folder / path for path in paths]), dtype="U64")
    except OSError as e:
        raise UserError(f"{e.filename}: cannot be read ({e.strerror}); allowed is a picture") from None
    return Listing(Files(folder, tuple(paths)), torch.tensor(labels, dtype=torch.int64), digests)


def _refuse_other_classes(place: Path, own: Sequence[str], names: Sequence[str]) -> None:
    unknown = [name for name in own if name not in names]
    if unknown:
        raise UserError(
            f"{place / unknown[0]}: there is no class of this name to train on; allowed: {_few(names)}"
            f"{did_you_mean(unknown[0], names)}"
        )
    missing = [name for name in names if name not in own]
    if missing:
        raise UserError(
            f"{place}: has no folder of the class {missing[0]}{_and_more(missing)}, which is trained on; allowed are "
            "pictures of every class in every part"
        )


def pictures(folder: Path, place: Path, names: Sequence[str]) -> tuple[list[str], list[int], int]:
    """The paths relative to `folder`, their labels, and how many files are no pictures."""
    known = suffixes()
    paths, labels, other = [], [], 0
    for label, name in enumerate(names):
        files = files_below(place / name)
        own = [path for path in files if path.suffix.lower() in known]
        if not own:
            has = f"has no pictures among its {plural(len(files), 'file')}" if files else "is empty"
            raise UserError(
                f"{place / name}: {has}; allowed is a folder with pictures for each class ({_endings(known)})"
            )
        paths += [path.relative_to(folder).as_posix() for path in own]
        labels += [label] * len(own)
        other += len(files) - len(own)
    return paths, labels, other


def files_below(folder: Path) -> list[Path]:
    """All files that are not hidden, by name."""
    found = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in IGNORED)
        found += [Path(place) / file for file in files if not file.startswith(".")]
    return sorted(found)


def _endings(known: frozenset[str]) -> str:
    usual = [suffix for suffix in (".jpg", ".png", ".webp", ".tif", ".bmp") if suffix in known]
    return f"{', '.join(usual)} and others that Pillow reads"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _and_more(names: Sequence[str]) -> str:
    return f" (and of {len(names) - 1} more)" if len(names) > 1 else ""
