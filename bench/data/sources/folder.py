"""A folder of class folders: `cats/1.jpg`, `dogs/2.png`; or such folders in `train/`, `val/` and `test/`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
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
        UserError: it has no class folders, one of them is empty, the parts have different classes, or there is none to
            train on.
    """
    parts = parts_of(folder)
    notes = beside_parts(folder, parts) if parts else _named_as_parts(folder)
    parts = parts or {"train": folder}
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
        if options.skip_unreadable:
            there = [i for i, path in enumerate(paths) if (folder / path).exists()]
            if len(there) < len(paths):
                notes.append(f"links of {place.name} that lead nowhere are left out: {len(paths) - len(there):,}")
            paths, labels = [paths[i] for i in there], [labels[i] for i in there]
        listings[part] = listing(folder, paths, labels)
        other += left_out
    if other:
        notes.append(f"{other:,} files of {folder.name} are no pictures by their names, and left out")
    return Found(str(folder), listings, tuple(names), tuple(notes))


def parts_of(folder: Path) -> dict[str, Path]:
    """The folders of the parts, by part; empty where there is none for training.

    Where there are pictures for validation alone beside those for training, they are the test set. A folder that holds
    pictures itself, among others of which none is called as a part is, is a class of this name.
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
    if "train" not in found or (len(found) == 1 and _is_class(found["train"])):
        return {}
    if "test" not in found and "holdout" in found:
        found["test"] = found.pop("holdout")
    return found


def _named_as_parts(folder: Path) -> list[str]:
    """What to say where the folders are classes, and some are called as parts are.

    Raises:
        UserError: one of them holds its pictures as parts do.
    """
    classes = subfolders(folder)
    named = [path for path in classes if path.name.lower() in PART_NAMES]
    for path in named:
        if _is_part(path):
            meant = did_you_mean("train", [other.name for other in classes if other not in named])
            raise UserError(f"{folder}: has {path.name}/ and no folder to train on; allowed: train/{meant}")
    return [f"{path.name} of {folder.name} is a class: it holds pictures, and no folders of classes" for path in named]


def beside_parts(folder: Path, parts: Mapping[str, Path]) -> list[str]:
    """What to say of folders beside those of the parts.

    Raises:
        UserError: one of them holds its pictures as parts do, and has nearly the name of one that is not there.
    """
    others = [path for path in subfolders(folder) if path not in parts.values()]
    there = {PART_NAMES[path.name.lower()] for path in parts.values()}
    missing = [name for name, part in PART_NAMES.items() if part not in there]
    for path in others:
        meant = did_you_mean(path.name, missing)
        if meant and _is_part(path):
            raise UserError(f"{path}: is the folder of no part; allowed: train/, val/ and test/{meant}")
    names = [path.name for path in others]
    return [f"folders of {folder.name} that are no parts are left out: {few(names)}"] if names else []


def _is_part(folder: Path) -> bool:
    """Whether folders in it hold pictures."""
    return any(_has_pictures(inner) for inner in subfolders(folder))


def _is_class(folder: Path) -> bool:
    """Whether it holds pictures itself, and no folders."""
    return not subfolders(folder) and _has_pictures(folder)


def _has_pictures(folder: Path) -> bool:
    """Whether there are any in it or below it."""
    known = suffixes()
    return any(path.suffix.lower() in known for path in files_below(folder))


def subfolders(folder: Path) -> list[Path]:
    """Those that are not hidden, by name."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not _is_left_out(p.name))


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
            f"{place / unknown[0]}: there is no class of this name to train on; allowed: {few(names)}"
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
    """All files that are not hidden, by name. Links to folders are followed: to each folder once, and never upwards.

    Raises:
        OSError: one of the folders cannot be read.
    """
    found = []
    around = (*folder.absolute().parents, *folder.resolve().parents, folder)
    seen = {_inode(path) for path in around if path.is_dir()}
    for place, folders, files in os.walk(folder, onerror=_raised, followlinks=True):
        inner = {_inode(Path(place, f)): f for f in sorted(folders, reverse=True) if not _is_left_out(f)}
        folders[:] = sorted(f for inode, f in inner.items() if inode not in seen)
        seen.update(inner)
        found += [Path(place) / file for file in files if not file.startswith(".")]
    return sorted(found)


def _raised(error: OSError) -> None:
    """Or `os.walk` would leave out a folder that it cannot read, and all that is in it."""
    raise error


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name in IGNORED


def _inode(folder: Path) -> tuple[int, int]:
    """The same of a folder and of all links to it."""
    stat = folder.stat()
    return stat.st_dev, stat.st_ino


def _endings(known: frozenset[str]) -> str:
    usual = [suffix for suffix in (".jpg", ".png", ".webp", ".tif", ".bmp") if suffix in known]
    return f"{', '.join(usual)} and others that Pillow reads"


def few(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _and_more(names: Sequence[str]) -> str:
    return f" (and of {len(names) - 1} more)" if len(names) > 1 else ""
