"""CIFAR-10 and CIFAR-100, from Parquet files in the Hugging Face layout or downloaded by torchvision."""

from __future__ import annotations

import http.client
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import torch
from greenprune.bench.data.cache import Arrays, cached
from greenprune.bench.data.content import file_hash
from greenprune.bench.data.data import HOLDOUT_SHARE, Channels, Dataset, stratified
from greenprune.bench.data.names import CLASSES
from greenprune.bench.data.sources import shards, tables
from greenprune.bench.data.splits import Split
from greenprune.bench.data.statistics import statistics
from greenprune.bench.errors import UserError
from greenprune.bench.text import plural
from torch import Tensor


@dataclass(frozen=True)
class _Published:
    """What is known of a dataset and therefore checked. Means: of the training images, scaled to 0..1."""

    classes: int
    label_columns: tuple[str, ...]
    mean: Channels
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


def is_there(name: str, root: Path) -> bool:
    """Whether nothing need be downloaded."""
    downloaded = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[name]
    return (root / downloaded).is_dir() or any(shards.has_shards(f) for f in (root / name, root))


def read(name: str, root: Path) -> Dataset:
    """From Parquet files in `root/<name>` or `root` itself; without such files downloaded into `root`, once.

    Raises:
        UserError: missing or damaged files, wrong content, no network.
    """
    published = _CIFAR[name]
    folder = next((f for f in (root / name, root) if shards.has_shards(f)), None)
    train, test = _download(name, root) if folder is None else _read_parquet(name, folder)
    complete = (("training", train, published.train_images), ("test", test, published.test_images))
    notes = tuple(
        f"a slice: {len(split):,} of {plural(count, 'image')} ({kind} set)"
        for kind, split, count in complete
        if len(split) != count
    )
    mean, std = statistics(train.images)
    rest, holdout = stratified(train, HOLDOUT_SHARE)
    if not len(holdout):
        raise UserError(
            f"{name}: with {plural(len(train), 'training image')} there is nothing to hold out; allowed are at least two "
            "images of a class"
        )
    if len(train) >= published.train_images:
        _check_published(name, folder or root, train, mean)
    notes = (*notes, *repeated(train.images, test.images))
    names = () if folder is None else _class_names(name, folder)
    return Dataset(name, published.classes, rest, holdout, test, mean, std, notes=notes, class_names=names)


def _class_names(name: str, folder: Path) -> tuple[str, ...]:
    """As the files say; empty where they do not."""
    schema = pq.read_schema(shards.shards(folder, "train")[0])
    label = next(column for column in _CIFAR[name].label_columns if column in schema.names)
    names = tables.class_names(schema, label)
    return names if len(names) == _CIFAR[name].classes else ()


def _read_parquet(name: str, folder: Path) -> tuple[Split, Split]:
    published = _CIFAR[name]
    files = {split: shards.shards(folder, split) for split in ("train", "test")}

    def decode() -> Arrays:
        arrays: Arrays = {}
        for split, paths in files.items():
            images, labels = shards.read(paths, published.label_columns, published.classes)
            arrays |= {f"{split}_images": images, f"{split}_labels": labels}
        return arrays

    try:
        made_of = {split: [file_hash(path) for path in paths] for split, paths in files.items()}
        arrays = {key: torch.from_numpy(array) for key, array in cached(name, made_of, decode).items()}
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


def _check_published(name: str, folder: Path, train: Split, mean: Channels) -> None:
    """Refuse files that are complete but not the dataset they are said to be."""
    published = _CIFAR[name]
    per_class = published.train_images // published.classes
    counts = torch.bincount(train.targets, minlength=published.classes)
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


def _format(values: Channels) -> str:
    return ", ".join(f"{value:.4f}" for value in values)
