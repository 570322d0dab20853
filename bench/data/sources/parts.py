"""A torch Dataset of the user's own as a part of a data set: what it is looked through for, and a share that is cut from it."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from greenprune.bench.data.assemble import workers_of
from greenprune.bench.data.content import file_hash, tensors_hash
from greenprune.bench.data.data import HOLDOUT_SHARE, SPLIT_SEED
from greenprune.bench.data.draw import drawing
from greenprune.bench.data.options import DataOptions
from greenprune.bench.data.own import ITEM, Own, image_of, pair_of, target_of
from greenprune.bench.data.reference import brief
from greenprune.bench.data.splits import LazySplit, by_class
from greenprune.bench.data.statistics import histograms
from greenprune.bench.errors import UserError
from greenprune.bench.text import plural
from torch import Tensor
from torch.utils.data import IterableDataset

SAMPLED = 256
"""Items of each part by which it is known again."""


def part_of(
    part: str, of: Any, options: DataOptions, given: str, known: Mapping[str, Any]
) -> tuple[LazySplit, Tensor | None]:
    """A part, and the histograms of its images where all were looked at."""
    streams = isinstance(of, IterableDataset)
    if not hasattr(of, "__len__") or not (streams or hasattr(of, "__getitem__")):
        raise UserError(
            f"{given}: its {part} is a {type(of).__name__} without __len__ or __getitem__; allowed is a torch Dataset, or an "
            "IterableDataset with a __len__"
        )
    try:
        count = len(of)
    except Exception as e:  # somebody else's code
        raise UserError(
            f"{given}: its {part} has no usable __len__ ({brief(e)}); allowed is the number of its images"
        ) from e
    if count < 1:
        raise UserError(f"{given}: its {part} is empty; allowed is at least one image")
    label = part
    try:
        with drawing(0, 0):
            image, target = pair_of(next(iter(of)) if streams else of[0])
        first = image_of(image, options.size, options.channels)
        kind = target_of(target)
    except ValueError as e:
        raise UserError(f"{given}: {label}[0] {e}") from e
    except Exception as e:  # somebody else's code
        raise UserError(f"{given}: {label}[0] cannot be had: {brief(e)}; allowed is {ITEM}") from e
    channels, height, width = first.shape
    own = Own(of, label, (channels, height, width), first.dtype)
    digest, sampled = _sampled(own, streams, count, options.factory, given)
    targets = _said_targets(of, count, sampled) if not streams and kind.ndim == 0 else None
    counts = None
    measures = part == "train" and first.dtype == torch.uint8 and "mean" not in known
    if measures or (targets is None and kind.ndim < 2):
        found, counts = _all(own, streams, count, given)
        targets = found if kind.ndim < 2 else None
    rows = np.arange(count)
    digests = np.array([digest], dtype="U64")
    split = LazySplit(
        own, rows, own.shape, targets, digests, workers_of(options), stream=own if streams else None, dtype=first.dtype
    )
    return split, counts


def _said_targets(of: Any, count: int, sampled: Mapping[int, Tensor]) -> Tensor | None:
    """Those that the Dataset tells of by itself, as torchvision's do; None where items have others.

    Args:
        sampled: targets of some items, by row.
    """
    for name in ("targets", "labels"):
        said = getattr(of, name, None)
        if not isinstance(said, list | tuple | np.ndarray | Tensor):
            continue
        try:
            found = torch.as_tensor(said).cpu()
        except (ValueError, TypeError, RuntimeError):  # names of classes, lists of several lengths
            continue
        if tuple(found.shape) != (count,) or found.is_floating_point() or found.is_complex():
            continue
        found = found.long()
        if all(target.ndim == 0 and int(target) == int(found[row]) for row, target in sampled.items()):
            return found
    return None


def _items(own: Own, streams: bool, rows: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
    if streams:
        for _, item in zip(rows, own.pass_through(0, 0), strict=False):
            yield item
        return
    for row in rows:
        with drawing(0, 0, row):
            item = own[row]
        yield item


def _all(own: Own, streams: bool, count: int, given: str) -> tuple[Tensor, Tensor | None]:
    """All targets, and the histograms of uint8 images."""
    counts = torch.zeros(own.shape[0], 256, dtype=torch.int64) if own.dtype == torch.uint8 else None
    targets: list[Tensor] = []
    try:
        for image, target in _items(own, streams, range(count)):
            targets.append(target)
            if counts is not None:
                counts += histograms(image[None])
    except Exception as e:  # somebody else's code
        raise UserError(f"{given}: {own.name(len(targets))} cannot be used: {brief(e)}") from e
    if len(targets) < count:
        raise UserError(
            f"{given}: {own.label} ends after {plural(len(targets), 'image')}, and its __len__ says {count:,}"
        )
    if targets[0].ndim > 1:
        return torch.zeros(0), counts
    try:
        return torch.stack(targets), counts
    except RuntimeError:
        raise UserError(
            f"{given}: the targets of {own.label} are not all of one shape; allowed are such of one"
        ) from None


def _sampled(own: Own, streams: bool, count: int, reference: str, given: str) -> tuple[str, dict[int, Tensor]]:
    """A hash of the module, the length, and items spread over the whole, of an iterable one the first; and their targets."""
    rows = range(min(count, SAMPLED)) if streams else np.unique(np.linspace(0, count - 1, SAMPLED).astype(int)).tolist()
    found = hashlib.sha256(f"{count} {own.shape} {own.dtype}".encode())
    source = getattr(importlib.import_module(reference.partition(":")[0]), "__file__", None)
    if source:
        found.update(file_hash(Path(source)).encode())
    targets: dict[int, Tensor] = {}
    try:
        for row, (image, target) in zip(rows, _items(own, streams, rows), strict=False):
            found.update(tensors_hash({"image": image, "target": target}).encode())
            targets[row] = target
    except Exception as e:  # somebody else's code
        raise UserError(f"{given}: {own.name(rows[len(targets)])} cannot be used: {brief(e)}") from e
    return found.hexdigest(), targets


def cut(train: LazySplit, given: str) -> tuple[LazySplit, LazySplit]:
    """The rest, and a tenth to hold out, always the same."""
    if train.stream is not None:
        raise UserError(
            f"{given}: its train is an IterableDataset, of which nothing can be held out; allowed is one with holdout"
        )
    random = np.random.RandomState(SPLIT_SEED)
    taken = np.zeros(len(train), dtype=bool)
    for group in [np.arange(len(train))] if train.targets is None else by_class(train.targets):
        rows = random.permutation(group)
        taken[rows[: max(round(HOLDOUT_SHARE * len(rows)), 1) if len(rows) > 1 else 0]] = True
    if not taken.any():
        raise UserError(
            f"{given}: of {plural(len(train), 'training image')} there is nothing to hold out; allowed are two of a class"
        )
    return train.chosen(np.flatnonzero(~taken)), train.chosen(np.flatnonzero(taken))
