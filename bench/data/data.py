"""Datasets as tensors: 32×32 images with three channels, split into training, held-out and test set.

    data = load("cifar10", "folder/with/data")
    data.train.images      # uint8 (45000, 3, 32, 32)

Decisions (which epoch, which setting) look at `holdout`; `test` is for the end of a run.
"""

from __future__ import annotations

import hashlib
import http.client
import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from greenprune.bench.data import parquet
from greenprune.bench.data.cache import Arrays, cache_folder, cached
from greenprune.bench.data.content import tensors_hash
from greenprune.bench.data.names import CLASSES, DATASETS
from greenprune.bench.errors import UserError, did_you_mean
from torch import Tensor

HOLDOUT_SHARE = 0.1
DIGITS_TEST_SHARE = 0.2
SPLIT_SEED = 20_160  # fixed: runs with different seeds must not disagree about what is held out

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Split:
    """Images (N, 3, 32, 32) uint8 and their labels (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """One dataset.

    Attributes:
        classes: labels are 0 .. classes - 1.
        train, holdout: nine tenths and one tenth of the published training set, every class alike.
        mean, std: per channel, of the published training set, with pixels scaled to 0..1.
        flip: whether a mirrored image still shows its class.
        padding: in pixels, for random crops that leave the object in the picture.
        notes: what a reader of the results has to know, e.g. that this is only a slice of the dataset.
    """

    name: str
    classes: int
    train: Split
    holdout: Split
    test: Split
    mean: RGB
    std: RGB
    flip: bool = True
    padding: int = 4
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


@dataclass(frozen=True)
class _Published:
    """What is known of a dataset and therefore checked. Means: of the training images, scaled to 0..1."""

    classes: int
    label_columns: tuple[str, ...]
    mean: RGB
    torchvision: str
    train_images: int = 50_000
    test_images: int = 10_000


# Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
_CIFAR = {
    "cifar10": _Published(CLASSES["cifar10"], ("label",), (0.4914, 0.4822, 0.4465), "CIFAR10"),
    "cifar100": _Published(CLASSES["cifar100"], ("fine_label", "label"), (0.5071, 0.4865, 0.4409), "CIFAR100"),
}
MEAN_TOLERANCE = 0.001
REPEATED_SHARE = 0.001  # of a set may be there twice without a word


def load(name: str, root: Path | str | None = None) -> Dataset:
    """A dataset by name, one of `DATASETS`.

    `digits` comes with scikit-learn. CIFAR is read from Parquet files in `root/<name>` or `root` itself; without such
    files it is downloaded into `root` by torchvision, once.

    Args:
        root: the data folder, see `data_root`.

    Raises:
        UserError: unknown name, missing or damaged files, wrong content, no network.
    """
    if name == "digits":
        return _digits()
    if name not in _CIFAR:
        raise UserError(f'dataset = "{name}" is unknown{did_you_mean(name, DATASETS)}; allowed: {", ".join(DATASETS)}')
    folder = data_root(root)
    if not folder.is_dir() and folder != cache_folder():  # a mistyped folder must not be filled by a download
        raise UserError(
            f"{folder}: there is no such data folder; allowed for --data and GREENPRUNE_DATA is an existing folder"
        )
    return _cifar(name, folder)


def is_there(name: str, root: Path | str | None = None) -> bool:
    """Whether `load` finds the data set on this machine, so that nothing need be downloaded."""
    folder = data_root(root)
    if name not in _CIFAR:
        return name in DATASETS
    downloaded = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[name]
    return (folder / downloaded).is_dir() or any(parquet.has_shards(f) for f in (folder / name, folder))


def content_hash(data: Dataset, parts: tuple[str, ...] = ("train", "holdout", "test")) -> str:
    """SHA-256 of the images and labels of these parts, and of what is done to them. 0.3 s for CIFAR."""
    splits = {part: getattr(data, part) for part in parts}
    tensors = {f"{part}.{name}": getattr(s, name) for part, s in splits.items() for name in ("images", "labels")}
    about = (data.name, data.classes, data.mean, data.std, data.padding, data.flip)
    return hashlib.sha256(f"{about} {tensors_hash(tensors)}".encode()).hexdigest()


def limited(data: Dataset, count: int) -> Dataset:
    """`data` with `count` of its training images, every class alike, always the same ones; the rest of it stays.

    Raises:
        UserError: there are not as many.
    """
    if count == len(data.train):
        return data
    if not 1 <= count < len(data.train):
        raise UserError(
            f"train_images = {count}: allowed is 1 to {len(data.train)}, the training images of {data.name}"
        )
    random = np.random.RandomState(SPLIT_SEED)
    labels = data.train.labels.numpy()
    place = np.empty(len(labels))  # of each image within its class, from 0 to 1
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        place[rows] = np.arange(len(rows)) / len(rows)
    rows = np.sort(np.argsort(place, kind="stable")[:count])
    train = Split(data.train.images[rows], data.train.labels[rows])
    note = f"{count:,} of {len(data.train):,} training images (train_images of the suite)"
    return replace(data, train=train, notes=(*data.notes, note))


def data_root(root: Path | str | None) -> Path:
    """The data folder: `root` (the command line's `--data`), else `GREENPRUNE_DATA`, else the user's cache folder."""
    chosen = root if root is not None else os.environ.get("GREENPRUNE_DATA") or cache_folder()
    try:
        return Path(chosen).expanduser()
    except RuntimeError:
        raise UserError(
            f"{chosen}: there is no such user; allowed for --data and GREENPRUNE_DATA is a folder"
        ) from None


def _digits() -> Dataset:
    """1,797 handwritten digits of 8×8 pixels with values 0..16 (UCI "Optical Recognition of Handwritten Digits")."""
    from sklearn.datasets import load_digits  # late: its import takes a second, and CIFAR does not need it

    bunch = load_digits()
    grey = torch.from_numpy(bunch.images).float().unsqueeze(1) * (255 / 16)
    grey = F.interpolate(grey, size=(parquet.SIDE, parquet.SIDE), mode="bilinear").round().to(torch.uint8)
    everything = Split(grey.repeat(1, 3, 1, 1), torch.from_numpy(bunch.target).long())
    rest, test = _stratified(everything, DIGITS_TEST_SHARE)
    # A mirrored 2 is no digit; one original pixel is four wide, so half of one is enough to shift.
    return _dataset("digits", CLASSES["digits"], rest, test, flip=False, padding=2)


def _cifar(name: str, root: Path) -> Dataset:
    published = _CIFAR[name]
    folder = next((f for f in (root / name, root) if parquet.has_shards(f)), None)
    train, test = _download(name, root) if folder is None else _read_parquet(name, folder)
    complete = (("training", train, published.train_images), ("test", test, published.test_images))
    notes = tuple(
        f"a slice: {len(split):,} of {count:,} images ({kind} set)"
        for kind, split, count in complete
        if len(split) != count
    )
    data = _dataset(name, published.classes, train, test, notes=(*notes, *repeated(train.images, test.images)))
    if len(train) >= published.train_images:
        _check_published(name, folder or root, train, data.mean)
    return data


def _read_parquet(name: str, folder: Path) -> tuple[Split, Split]:
    published = _CIFAR[name]
    files = {split: parquet.shards(folder, split) for split in ("train", "test")}

    def decode() -> Arrays:
        arrays: Arrays = {}
        for split, paths in files.items():
            images, labels = parquet.read(paths, published.label_columns, published.classes)
            arrays |= {f"{split}_images": images, f"{split}_labels": labels}
        return arrays

    try:
        arrays = {key: torch.from_numpy(array) for key, array in cached(name, files, decode).items()}
    except OSError as e:
        raise UserError(f"{e.filename}: cannot be read ({e.strerror}); allowed is a complete Parquet file") from None
    train, test = (Split(arrays[f"{split}_images"], arrays[f"{split}_labels"]) for split in files)
    return train, test


def _download(name: str, root: Path) -> tuple[Split, Split]:
    """Through torchvision, which shows a progress bar, checks the files, and leaves complete ones alone."""
    import torchvision  # late: its import takes a second

    dataset = getattr(torchvision.datasets, _CIFAR[name].torchvision)
    try:
        parts = [dataset(root, train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{name}: there is no train-*.parquet in {root / name} or {root}, and downloading into {root} failed "
            f"({reason}); give a folder that holds the data with --data or GREENPRUNE_DATA"
        ) from error
    train, test = (
        Split(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets))
        for part in parts
    )
    return train, test


def _check_published(name: str, folder: Path, train: Split, mean: RGB) -> None:
    """Refuse files that are complete but not the dataset they are said to be."""
    published = _CIFAR[name]
    per_class = published.train_images // published.classes
    counts = torch.bincount(train.labels, minlength=published.classes)
    if (counts != per_class).any():
        wrong = int((counts != per_class).nonzero()[0])
        raise UserError(
            f"{folder}: class {wrong} has {int(counts[wrong]):,} training images; {name} has {per_class:,} in each of "
            f"its {published.classes} classes"
        )
    if any(abs(a - b) > MEAN_TOLERANCE for a, b in zip(mean, published.mean, strict=True)):
        raise UserError(
            f"{folder}: the training images have the channel means {_format(mean)}; those of {name} are "
            f"{_format(published.mean)}, allowed is a difference of {MEAN_TOLERANCE}"
        )


def repeated(train: Tensor, test: Tensor) -> tuple[str, ...]:
    """What to say where images are there twice: test images among those trained on, or a file of them under two names.

    A few are in published sets too.
    """
    seen = Counter(hash(image.tobytes()) for image in train.numpy())
    again = sum(count - 1 for count in seen.values())
    known = sum(hash(image.tobytes()) in seen for image in test.numpy())
    notes = []
    if again > REPEATED_SHARE * len(train):
        notes.append(f"{again:,} of {len(train):,} training images are copies of others: is a file there twice?")
    if known > REPEATED_SHARE * len(test):
        notes.append(
            f"{known:,} of {len(test):,} test images are among the training images too: test accuracy is no measure of "
            "what was learnt"
        )
    return tuple(notes)


def _format(values: RGB) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _dataset(
    name: str,
    classes: int,
    train: Split,
    test: Split,
    *,
    flip: bool = True,
    padding: int = 4,
    notes: tuple[str, ...] = (),
) -> Dataset:
    mean, std = _statistics(train.images)
    rest, holdout = _stratified(train, HOLDOUT_SHARE)
    if not len(holdout):
        raise UserError(
            f"{name}: with {len(train)} training images there is nothing to hold out; allowed are at least two images "
            "of a class"
        )
    return Dataset(name, classes, rest, holdout, test, mean, std, flip, padding, notes)


def _stratified(split: Split, share: float) -> tuple[Split, Split]:
    """The rest, and a random `share` of every class (rounded, of two images or more at least one); order is kept.

    Always the same for the same labels: `RandomState` is the generator whose stream NumPy has promised not to change.
    """
    random = np.random.RandomState(SPLIT_SEED)
    labels = split.labels.numpy()
    taken = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        count = max(round(share * len(rows)), 1) if len(rows) > 1 else 0
        taken[rows[:count]] = True
    mask = torch.from_numpy(taken)
    return Split(split.images[~mask], split.labels[~mask]), Split(split.images[mask], split.labels[mask])


def _statistics(images: Tensor) -> tuple[RGB, RGB]:
    """Mean and standard deviation per channel of (N, 3, H, W) uint8, scaled to 0..1; exact, from histograms."""
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(1):
        shares = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = (shares * values).sum()
        means.append(mean.item())
        stds.append((shares * (values - mean) ** 2).sum().sqrt().item())
    return (means[0], means[1], means[2]), (stds[0], stds[1], stds[2])
