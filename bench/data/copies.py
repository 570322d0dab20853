"""What to say of pictures that occur more than once where it matters: in two parts of a data set, or in two classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from greenprune.bench.data.splits import LazySplit, Part, Split
from greenprune.bench.text import listed, plural

CALLED = {"train": "training", "holdout": "held-out", "test": "test"}
PAIRS = (
    ("test", "train", "the test score is no measure of what was learnt"),
    ("test", "holdout", "what is decided with those knows the test"),
    ("holdout", "train", "what is decided with them knows nothing new"),
)
"""Where a picture of the first part is in the second one as well, this follows."""


def of_copies(parts: Mapping[str, Part], class_names: Sequence[str]) -> list[str]:
    """A sentence without its full stop for each pair of parts, and for the classes, of which pictures are the same.

    Args:
        parts: each with a digest of every picture.
    """
    digests = {name: _digests(part) for name, part in parts.items()}
    notes = []
    for of, among, so in PAIRS:
        known = int(np.isin(digests[of], digests[among]).sum())
        if known:
            count = f"{known:,} of {len(digests[of]):,}"
            notes.append(f"{count} {CALLED[of]} pictures are among the {CALLED[among]} pictures too: {so}")
    return notes + _of_classes(list(digests.values()), list(parts.values()), class_names)


def _digests(part: Part) -> np.ndarray:
    assert isinstance(part, Split | LazySplit)
    assert part.digests is not None
    return part.digests


def _of_classes(digests: Sequence[np.ndarray], parts: Sequence[Part], class_names: Sequence[str]) -> list[str]:
    """Of pictures that have more than one class; nothing where targets are no classes."""
    targets = [part.targets for part in parts]
    labels = [labels.numpy() for labels in targets if labels is not None and labels.ndim == 1]
    if len(labels) < len(parts):
        return []
    pictures, number = np.unique(np.concatenate(digests), return_inverse=True)
    pairs = np.unique(np.stack([number, np.concatenate(labels)], axis=1), axis=0)
    classes = np.bincount(pairs[:, 0], minlength=len(pictures))
    several = np.flatnonzero(classes > 1)
    if not len(several):
        return []
    first = listed([class_names[label] for label in pairs[pairs[:, 0] == several[0], 1]])
    return [
        f"{len(several):,} of {plural(len(pictures), 'different picture')} have more than one class, one of them {first}"
    ]
