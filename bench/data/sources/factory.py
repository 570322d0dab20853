"""torch Datasets of the user's own: `package.module:factory`, a function without arguments.

It returns a mapping, an object or a tuple with `train`, `test` and, if there is one, `holdout`; a mapping may also hold
`classes`, `class_names`, `mean` and `std`. Each is a map-style or an iterable Dataset of (image, target). An image is what
Pillow opened, or uint8 (C, H, W), and is scaled as a file is; one of floats (C, H, W) is given to the network as it is. A
target is a class, or numbers (K,), or a mask (H, W) of classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from greenprune.bench.data.data import Dataset
from greenprune.bench.data.options import MOST_CLASSES, DataOptions
from greenprune.bench.data.reference import brief, called
from greenprune.bench.data.sources.parts import cut, part_of
from greenprune.bench.data.splits import LazySplit, Part, held
from greenprune.bench.data.statistics import of_histograms
from greenprune.bench.errors import UserError
from greenprune.bench.text import plural
from pydantic import ValidationError
from torch import Tensor

WHAT = "a function without arguments that returns a mapping with torch Datasets for train, test and perhaps holdout"
NUMBERS = "a list of numbers, one for each channel"
KNOWN = {
    "classes": f"a whole number from 1 to {MOST_CLASSES:,}",
    "class_names": "a list of texts, one for each class",
    "mean": NUMBERS,
    "std": NUMBERS,
}
"""What a factory may say beside its parts, and what is allowed."""


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
    known = _checked(known, options, given)
    splits: dict[str, LazySplit] = {}
    counts: Tensor | None = None
    for part, of in parts.items():
        splits[part], seen = part_of(part, of, options, given, known)
        counts = seen if part == "train" else counts
    if "holdout" not in splits:
        splits["train"], splits["holdout"] = cut(splits["train"], given)
    floats = splits["train"].dtype != torch.uint8
    for part, split in splits.items():
        if split.shape != splits["train"].shape or split.dtype != splits["train"].dtype:
            raise UserError(
                f"{given}: the images of train and {part} differ in shape or type; allowed are such of one kind"
            )
    channels = splits["train"].shape[0]
    mean, std = (0.0,) * channels, (1.0,) * channels
    if not floats and "mean" in known:
        mean, std = known["mean"], known["std"]
    elif not floats and counts is not None:
        mean, std = of_histograms(counts)
        if min(std) <= 0:
            raise UserError(
                f"{given}: a channel has the same value in every pixel of every training image; allowed are images that differ"
            )
    in_memory = options.loading == "memory"
    if floats and in_memory:
        raise UserError(
            f'{given}: loading = "memory": its images are floats, which only workers read; allowed: "workers" or "auto"'
        )
    final: dict[str, Part] = {part: held(split) if in_memory else split for part, split in splits.items()}
    names = known.get("class_names", ())
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
    known = {key: value for key, value in found.items() if value is not None}
    if ("mean" in known) != ("std" in known):
        raise UserError(f"{given}: returns one of mean and std; allowed are both, or none of them")
    return parts, known


def _checked(known: Mapping[str, Any], options: DataOptions, given: str) -> dict[str, Any]:
    """What the factory says beside its parts, by the rules of a suite; what the suite itself says goes before it."""
    said = {key: _plain(value) for key, value in known.items()}
    said |= {key: getattr(options, key) for key in ("classes", "mean", "std") if getattr(options, key) is not None}
    names = said.pop("class_names", None)
    if names is not None and not (isinstance(names, tuple) and all(isinstance(name, str | int) for name in names)):
        raise UserError(f"{given}: returns class_names = {names!r:.60}; allowed: {KNOWN['class_names']}")
    try:
        checked = DataOptions(channels=options.channels, **said)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        what = f"{key} = {said[key]!r:.60}: allowed: {KNOWN[key]}" if key else first["msg"]
        raise UserError(f"{given}: returns {what}") from None
    found = {key: getattr(checked, key) for key in said}
    return found if names is None else found | {"class_names": tuple(map(str, names))}


def _plain(value: Any) -> Any:
    """Numbers and lists, also of NumPy and torch, as Python's own numbers and tuples; whatever else as it is."""
    if isinstance(value, np.ndarray | np.generic | Tensor):
        value = value.tolist()
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else value


def _classes(splits: Mapping[str, LazySplit], known: Mapping[str, Any], names: Sequence[str], given: str) -> int:
    """Outputs that a network needs."""
    if "classes" in known or names:
        classes = known.get("classes", len(names))
    else:
        found = [split.targets for split in splits.values()]
        if any(targets is None for targets in found):
            raise UserError(
                f"{given}: its targets are masks, and nobody knows of how many classes; allowed: with classes = …"
            )
        each = [int(t.max()) + 1 if t.ndim == 1 else t.shape[1] for t in found if t is not None]
        classes = min(max(each), MOST_CLASSES)
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
