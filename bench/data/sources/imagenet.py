"""ImageNet and Tiny ImageNet in the layouts that they are published in.

ImageNet: `train/<wnid>/*.JPEG` and `val/<wnid>/*.JPEG`, or as Kaggle packs it: `ILSVRC/Data/CLS-LOC/` with a flat `val/`,
whose labels stand in `LOC_val_solution.csv`. Tiny ImageNet: `train/<wnid>/images/*.JPEG`, and a flat `val/images/` with
`val_annotations.txt`. Of neither are the test labels known: the validation part is the test set, and a tenth of the
training part is held out.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from greenprune.bench.data.found import Found
from greenprune.bench.data.options import DataOptions
from greenprune.bench.data.sources import folder as class_folders
from greenprune.bench.data.sources.folder import files_below, listing, subfolders
from greenprune.bench.errors import UserError

ANNOTATIONS = "val/val_annotations.txt"
SOLUTION = "LOC_val_solution.csv"
KAGGLE = "ILSVRC/Data/CLS-LOC"


def is_one(folder: Path) -> bool:
    """Whether the labels of `val/` stand in a file; with class folders it is a folder as any other."""
    return (folder / ANNOTATIONS).is_file() or (folder / SOLUTION).is_file()


def find(folder: Path, options: DataOptions) -> Found:
    """Raises UserError: files or labels are missing."""
    if (folder / ANNOTATIONS).is_file():
        train, val = folder / "train", folder / "val" / "images"
        labels = _annotated(folder / ANNOTATIONS)
    else:
        base = folder / KAGGLE if (folder / KAGGLE).is_dir() else folder
        train, val = base / "train", base / "val"
        labels = _solved(folder / SOLUTION)
    if not train.is_dir() or not val.is_dir():
        raise UserError(f"{train if val.is_dir() else val}: there is no such folder; allowed is the published layout")
    names = [path.name for path in subfolders(train)]
    paths, classes, _ = class_folders.pictures(folder, train, names)
    shown = {path.name: path for path in files_below(val)}
    missing = [name for name in labels if name not in shown]
    unknown = [name for name in labels.values() if name not in names]
    if missing or unknown:
        what = f"the picture {missing[0]} is missing" if missing else f"the class {unknown[0]} has no folder in {train}"
        raise UserError(f"{val}: {what}; allowed is the complete set")
    own = sorted(labels)
    test = listing(
        folder,
        [shown[name].relative_to(folder).as_posix() for name in own],
        [names.index(labels[name]) for name in own],
    )
    return Found(str(folder), {"train": listing(folder, paths, classes), "test": test}, tuple(names))


def _annotated(path: Path) -> dict[str, str]:
    """The class of each file, of lines `name<TAB>wnid<TAB>...`."""
    rows = (line.split("\t") for line in _text(path).splitlines() if line.strip())
    return {row[0]: row[1] for row in rows if len(row) > 1}


def _solved(path: Path) -> dict[str, str]:
    """The same of lines `name,wnid x y x y ...`."""
    try:
        rows = list(csv.reader(io.StringIO(_text(path), newline="")))[1:]
    except csv.Error as e:
        raise UserError(
            f"{path}: is no table with commas between its values ({e}); allowed is the published file"
        ) from None
    return {f"{row[0]}.JPEG": row[1].split()[0] for row in rows if len(row) > 1 and row[1].split()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as e:
        raise UserError(
            f"{path}: is no text in UTF-8 (byte {e.start} is none); allowed is the published file"
        ) from None
