"""Data sets by name or by table.

data = load("cifar10", "folder/with/data")
data.train.images      # uint8 (45000, 3, 32, 32)
data = load(DataOptions(folder="photographs", image_size=64))
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from greenprune.bench.data.assemble import assemble
from greenprune.bench.data.data import Dataset
from greenprune.bench.data.found import Found
from greenprune.bench.data.names import CLASSES, DATASETS, FOLDER
from greenprune.bench.data.options import DataOptions, Entry, as_options, is_known, label_of
from greenprune.bench.data.place import data_root, existing_root, is_said
from greenprune.bench.data.sources import cifar, digits, factory, folder, imagenet, masks, tables
from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.foreign import shortened
from greenprune.bench.paths import path_of
from greenprune.bench.text import plural

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
    files it is downloaded into `root` by torchvision, once. ImageNet and Tiny ImageNet lie in `root/<name>`, or their class
    folders in `root/train`. Others are read from where the table says, or `folder` from the data folder itself.

    Args:
        entry: one of `DATASETS`, or a table.
        root: the data folder, see `data_root`.

    Raises:
        UserError: unknown name, missing or damaged files, wrong content, no network, a path that cannot be looked for.
    """
    options = as_options(entry)
    if options.folder:
        return _from_folder(options.label, _place_of(options.folder), options)
    if options.factory:
        return factory.read(options.label, options)
    name = options.name
    if not is_known(name):
        raise UserError(f'dataset = "{name}" is unknown{did_you_mean(name, DATASETS)}; allowed: {", ".join(DATASETS)}')
    if name == "digits":
        return digits.read()
    if name in ("cifar10", "cifar100"):
        return cifar.read(name, existing_root(root))
    if name == FOLDER and not is_said(root):
        raise UserError(
            f'dataset = "{FOLDER}": stands for the data folder itself, and nobody says which that is; allowed: with --data or '
            "GREENPRUNE_DATA"
        )
    return _from_folder(name, _folder_of(name, existing_root(root)), options, CLASSES.get(name))


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
        if not is_said(root):
            raise UserError(f"{name}: nobody knows where its folder {options.folder} lies: say where with --data")
        place = existing_root(root)
        below = (path_of(each, f"dataset {shortened(name)}", place) for each in (options.folder, name))
        folder = str(next((path for path in below if path.is_dir()), place))
    return options.model_copy(update={"folder": folder, "name": name})


def is_there(entry: Entry, root: Path | str | None = None) -> bool:
    """Whether `load` finds the data set on this machine, so that nothing need be downloaded."""
    if not isinstance(entry, str) and entry.folder:
        return _place_of(entry.folder).is_dir()
    if not isinstance(entry, str) and entry.factory:
        return True
    name = label_of(entry)
    if name in ("cifar10", "cifar100"):
        return cifar.is_there(name, data_root(root))
    if name == "digits" or name not in DATASETS:
        return name == "digits"
    if name == FOLDER and not is_said(root):
        return False
    place = _folder_of(name, data_root(root))
    return place.is_dir() and any(fits(place) for fits, _ in LAYOUTS)


def _place_of(folder: str) -> Path:
    """Raises UserError: as of `path_of`."""
    return path_of(folder, f'dataset.folder = "{shortened(folder)}"')


def _folder_of(name: str, root: Path) -> Path:
    """Where in the data folder a set of pictures lies: under its name, or it is that folder itself."""
    if name == FOLDER:
        return root
    own = path_of(name, f'dataset = "{name}"', root)
    return root if not own.is_dir() and _is_itself(root, CLASSES[name]) else own


def _is_itself(root: Path, classes: int) -> bool:
    """Whether a folder has so many class folders to train on, as ImageNet and Tiny ImageNet are published."""
    places = [path_of("train", f"data folder {root}", base) for base in (root / imagenet.KAGGLE, root)]
    return any(train.is_dir() and len(folder.subfolders(train)) == classes for train in places)


def _from_folder(name: str, place: Path, options: DataOptions, classes: int | None = None) -> Dataset:
    """What a folder holds. `classes`: so many, where a set of this name is known."""
    if not place.is_dir():
        what = "is no folder" if place.exists() else "there is no such folder"
        beside = "" if classes is None else f", or beside it train/ with {classes:,} class folders"
        raise UserError(f"{place}: {what}; allowed is a folder with images{beside}")
    try:
        for fits, find in LAYOUTS:
            if fits(place):
                found = find(place, options)
                count = len(found.class_names)
                if classes not in (None, count):
                    raise UserError(
                        f"{place}: has {plural(count, 'class', 'classes')}, and {name} has {classes:,}; allowed is the whole "
                        "set; for another one say dataset.folder"
                    )
                return assemble(name, found, options)
    except OSError as e:
        raise UserError(f"{e.filename or place}: cannot be read ({e.strerror or e})") from None
    raise UserError(
        f"{place}: holds no images that are laid out as any that are known; allowed are class folders, Parquet files in the "
        "Hugging Face layout, a folder of datasets.save_to_disk, and images/ with masks/"
    )
