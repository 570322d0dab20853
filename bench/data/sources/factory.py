"""torch Datasets of the user's own: `package.module:factory`, a function without arguments.

It returns a mapping, an object or a tuple with `train`, `test` and, if there is one, `holdout`; a mapping may also hold
`classes`, `class_names`, `mean` and `std`. Each is a map-style or an iterable Dataset of (image, target). An image is what
Pillow opened, or uint8 (C, H, W), and is scaled as a file is; one of floats (C, H, W) is given to the network as it is. A
target is a class, or numbers (K,), or a mask (H, W) of classes.
"""

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
from greenprune.bench.data.data import HOLDOUT_SHARE, SPLIT_SEED, Dataset
from greenprune.bench.data.draw import drawing
from greenprune.bench.data.options import DataOptions
from greenprune.bench.data.own import ITEM, Own, image_of, pair_of, target_of
from greenprune.bench.data.reference import brief, called
from greenprune.bench.data.splits import LazySplit, Part, by_class, held
from greenprune.bench.data.statistics import histograms, of_histograms
from greenprune.bench.errors import UserError
from greenprune.bench.text import plural
from torch import Tensor
from torch.utils.data import IterableDataset

WHAT = "a function without arguments that returns a mapping with torch Datasets for train, test and perhaps holdout"
SAMPLED = 256
"""Items of each part by which it is known again."""

KNOWN = ("classes", "class_names", "mean", "std")


def read(name: str, options: DataOptions) -> Dataset:
    """Raises UserError: the factory or what it returns cannot be used."""
    given = f'factory = "{options.factory}"'
    factory = called("dataset.factory", options.factory, WHAT)
    try:
        made = factory()
    except KeyboardInterrupt:
        raise
    except BaseException as e:  # somebody else's code
        raise UserError(f"{given}: fails with {brief(e)}; allowed is {WHAT}") from e
    parts, known = _parts(made, given)
    known |= {key: getattr(options, key) for key in ("classes", "mean", "std") if getattr(options, key) is not None}
    splits: dict[str, LazySplit] = {}
    counts: Tensor | None = None
    for part, of in parts.items():
        splits[part], seen = _split(part, of, options, given, known)
        counts = seen if part == "train" else counts
    if "holdout" not in splits:
        splits["train"], splits["holdout"] = _cut(splits["train"], given)
    if splits["train"].shape != splits["test"].shape or splits["train"].dtype != splits["test"].dtype:
        raise UserError(f"{given}: the images of train and test differ in shape or type; allowed are such of one kind")
    floats = splits["train"].dtype != torch.uint8
    channels = splits["train"].shape[0]
    mean, std = (0.0,) * channels, (1.0,) * channels
    if not floats and "mean" in known:
        mean, std = tuple(map(float, known["mean"])), tuple(map(float, known["std"]))
    elif not floats and counts is not None:
        mean, std = of_histograms(counts)
    in_memory = options.loading == "memory"
    final: dict[str, Part] = {part: held(split) if in_memory else split for part, split in splits.items()}
    names = tuple(map(str, known.get("class_names", ())))
    return Dataset(
        name=name,
        classes=_classes(splits, known, names, given),
        train=final["train"],
        holdout=final["holdout"],
        test=final["test"],
        mean=mean,
        std=std,
        flip=options.flip,
        padding=max(1, splits["train"].shape[1] // 8),
        notes=(f"images of {name} come as floats: they are neither normalised nor cropped and mirrored",)
        if floats
        else (),
        class_names=names,
        given="mean" in known,
    )


def _parts(made: Any, given: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The Datasets by part, and what else the factory says."""
    if isinstance(made, Mapping):
        found = dict(made)
    elif isinstance(made, tuple | list) and len(made) in (2, 3):
        found = dict(zip(("train", "holdout", "test") if len(made) == 3 else ("train", "test"), made, strict=True))
    else:
        found = {key: getattr(made, key) for key in ("train", "holdout", "test", *KNOWN) if hasattr(made, key)}
    parts = {part: found.pop(part) for part in ("train", "holdout", "test") if found.get(part) is not None}
    if "train" not in parts or "test" not in parts:
        has = ", ".join(map(str, dict(made))) if isinstance(made, Mapping) else f"a {type(made).__name__}"
        raise UserError(f"{given}: returns {has or 'an empty mapping'}; allowed is {WHAT}")
    unknown = [key for key in found if key not in KNOWN and key != "holdout"]
    if unknown:
        raise UserError(f"{given}: returns {unknown[0]} too; allowed are train, holdout, test, {', '.join(KNOWN)}")
    if ("mean" in found) != ("std" in found):
        raise UserError(f"{given}: returns one of mean and std; allowed are both, or none of them")
    return parts, {key: value for key, value in found.items() if value is not None}


def _split(
    part: str, of: Any, options: DataOptions, given: str, known: Mapping[str, Any]
) -> tuple[LazySplit, Tensor | None]:
    """A part, and the histograms of its images where all were looked at."""
    streams = isinstance(of, IterableDataset)
    if not hasattr(of, "__len__") or not (streams or hasattr(of, "__getitem__")):
        raise UserError(
            f"{given}: its {part} is a {type(of).__name__} without __len__ or __getitem__; allowed is a torch Dataset, or an "
            "IterableDataset with a __len__"
        )
    count = len(of)
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
    targets = _said_targets(of, count) if not streams and kind.ndim == 0 else None
    counts = None
    measures = part == "train" and first.dtype == torch.uint8 and "mean" not in known
    if measures or (targets is None and kind.ndim < 2):
        found, counts = _all(own, streams, count, given)
        targets = found if kind.ndim < 2 else None
    rows = np.arange(count)
    digests = np.array([_digest(own, streams, count, options.factory, given)], dtype="U64")
    split = LazySplit(
        own, rows, own.shape, targets, digests, workers_of(options), stream=own if streams else None, dtype=first.dtype
    )
    return split, counts


def _said_targets(of: Any, count: int) -> Tensor | None:
    """Those that the Dataset tells of by itself, as torchvision's do."""
    for name in ("targets", "labels"):
        said = getattr(of, name, None)
        if isinstance(said, list | tuple | np.ndarray | Tensor) and len(said) == count:
            found = torch.as_tensor(said)
            if found.ndim == 1 and not found.is_floating_point():
                return found.long()
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


def _digest(own: Own, streams: bool, count: int, reference: str, given: str) -> str:
    """Of the module, the length, and items spread over the whole; of an iterable one the first."""
    rows = range(min(count, SAMPLED)) if streams else np.unique(np.linspace(0, count - 1, SAMPLED).astype(int)).tolist()
    found = hashlib.sha256(f"{count} {own.shape} {own.dtype}".encode())
    source = getattr(importlib.import_module(reference.partition(":")[0]), "__file__", None)
    if source:
        found.update(file_hash(Path(source)).encode())
    try:
        for image, target in _items(own, streams, rows):
            found.update(tensors_hash({"image": image, "target": target}).encode())
    except Exception as e:  # somebody else's code
        raise UserError(f"{given}: an item of {own.label} cannot be used: {brief(e)}") from e
    return found.hexdigest()


def _cut(train: LazySplit, given: str) -> tuple[LazySplit, LazySplit]:
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


def _classes(splits: Mapping[str, LazySplit], known: Mapping[str, Any], names: Sequence[str], given: str) -> int:
    """Outputs that a network needs."""
    if "classes" in known or names:
        classes = int(known.get("classes", len(names)))
    else:
        found = [split.targets for split in splits.values()]
        if any(targets is None for targets in found):
            raise UserError(
                f"{given}: its targets are masks, and nobody knows of how many classes; allowed: with classes = …"
            )
        each = [int(t.max()) + 1 if t.ndim == 1 else t.shape[1] for t in found if t is not None]
        classes = max(each)
    for part, split in splits.items():
        if split.targets is not None and split.targets.ndim == 1:
            wrong = (split.targets < 0) | (split.targets >= classes)
            if wrong.any():
                row = int(wrong.nonzero()[0])
                raise UserError(
                    f"{given}: {part}[{row}] has the class {int(split.targets[row])}; allowed is 0 to {classes - 1}"
                )
    if known.get("class_names") is not None and len(names) != classes:
        of = plural(classes, "class", "classes")
        raise UserError(f"{given}: returns {plural(len(names), 'class_name')} for {of}; allowed is one for each")
    missing = _missing(splits, classes)
    if missing is not None:
        raise UserError(
            f"{given}: of class {missing} there is no image to test with; allowed are images of every class"
        )
    return classes


def _missing(splits: Mapping[str, LazySplit], classes: int) -> int | None:
    targets = splits["test"].targets
    if targets is None or targets.ndim != 1:
        return None
    none = (torch.bincount(targets, minlength=classes) == 0).nonzero().flatten()
    return int(none[0]) if len(none) else None
