"""Data sets by name or by table.

data = load("cifar10", "folder/with/data")
data.train.images      # uint8 (45000, 3, 32, 32)
data = load(DataOptions(folder="photographs", image_size=64))
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from greenprune.bench.data.assemble import assemble
from greenprune.bench.data.data import Dataset
from greenprune.bench.data.found import Found
from greenprune.bench.data.names import DATASETS, FOLDER
from greenprune.bench.data.options import DataOptions, Entry, as_options, is_known, label_of
from greenprune.bench.data.place import data_root, existing_root
from greenprune.bench.data.sources import cifar, digits, factory, folder, imagenet, masks, tables
from greenprune.bench.errors import UserError, did_you_mean

LAYOUTS: tuple[tuple[Callable[[Path], bool], Callable[[Path, DataOptions], Found]], ...] = (
    (tables.is_saved, tables.find_saved),
    (imagenet.is_one, imagenet.find),
    (masks.is_one, masks.find),
    (tables.is_parquet, tables.find_parquet),
    (folder.is_one, folder.find),
)
"""What a folder may hold: how it is told, and how it is read; the first that fits is taken."""


def load(entry: Entry, root: Path | str | None = None) -> Dataset:
    """A data set.

    `digits` comes with scikit-learn. CIFAR is read from Parquet files in `root/<name>` or `root` itself; without such
    files it is downloaded into `root` by torchvision, once. Others are read from where the table says, or from the data
    folder.

    Args:
        entry: one of `DATASETS`, or a table.
        root: the data folder, see `data_root`.

    Raises:
        UserError: unknown name, missing or damaged files, wrong content, no network.
    """
    options = as_options(entry)
    if options.folder:
        return _from_folder(options.label, Path(options.folder).expanduser(), options)
    if options.factory:
        return factory.read(options.label, options)
    name = options.name
    if not is_known(name):
        raise UserError(f'dataset = "{name}" is unknown{did_you_mean(name, DATASETS)}; allowed: {", ".join(DATASETS)}')
    if name == "digits":
        return digits.read()
    if name in ("cifar10", "cifar100"):
        return cifar.read(name, existing_root(root))
    return _from_folder(name, _folder_of(name, existing_root(root)), options)


def load_again(
    name: str,
    options: DataOptions | None,
    root: Path | str | None = None,
    folder: str | None = None,
    *,
    trust: bool = True,
) -> Dataset:
    """The data set that settings speak of, which do not say where its folder lies.

    Args:
        folder: where it lies; None: as it is called in the data folder, or that folder itself.
        trust: whether a factory may be imported, and so run.

    Raises:
        UserError: as of `load`; or nobody knows where it lies.
    """
    return load(_found_again(name, options, root, folder, trust=trust), root)


def is_there_again(name: str, options: DataOptions | None, root: Path | str | None = None) -> bool:
    """Whether `load_again` finds it on this machine."""
    try:
        return is_there(_found_again(name, options, root, None, trust=True), root)
    except UserError:
        return False


def _found_again(
    name: str, options: DataOptions | None, root: Path | str | None, folder: str | None, *, trust: bool
) -> Entry:
    if options is None:
        return name
    if options.factory and not trust:
        raise UserError(f"{name}: needs code of its own, {options.factory}: where you know it, say --trust")
    if not options.folder:
        return options
    if folder is None:
        if root is None and not os.environ.get("GREENPRUNE_DATA"):
            raise UserError(f"{name}: nobody knows where its folder {options.folder} lies: say where with --data")
        place = existing_root(root)
        folder = str(next((p for p in (place / options.folder, place / name) if p.is_dir()), place))
    return options.model_copy(update={"folder": folder, "name": name})


def is_there(entry: Entry, root: Path | str | None = None) -> bool:
    """Whether `load` finds the data set on this machine, so that nothing need be downloaded."""
    if not isinstance(entry, str) and entry.folder:
        return Path(entry.folder).expanduser().is_dir()
    if not isinstance(entry, str) and entry.factory:
        return True
    name = label_of(entry)
    if name in ("cifar10", "cifar100"):
        return cifar.is_there(name, data_root(root))
    if name == "digits" or name not in DATASETS:
        return name == "digits"
    place = _folder_of(name, data_root(root))
    return place.is_dir() and any(fits(place) for fits, _ in LAYOUTS)


def _folder_of(name: str, root: Path) -> Path:
    """That of a name in the data folder, or the data folder itself."""
    return root / name if name != FOLDER and (root / name).is_dir() else root


def _from_folder(name: str, place: Path, options: DataOptions) -> Dataset:
    if not place.is_dir():
        what = "is no folder" if place.exists() else "there is no such folder"
        raise UserError(f"{place}: {what}; allowed is a folder with images")
    try:
        for fits, find in LAYOUTS:
            if fits(place):
                return assemble(name, find(place, options), options)
    except OSError as e:
        raise UserError(f"{e.filename or place}: cannot be read ({e.strerror or e})") from None
    raise UserError(
        f"{place}: holds no images that are laid out as any that are known; allowed are class folders, Parquet files in the "
        "Hugging Face layout, a folder of datasets.save_to_disk, and images/ with masks/"
    )
