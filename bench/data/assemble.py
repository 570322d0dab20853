"""From what a source finds to a data set: pictures are looked at, parts that are missing are cut, and all is decoded or not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from greenprune.bench.data.cache import Arrays, cached
from greenprune.bench.data.copies import of_copies
from greenprune.bench.data.data import HOLDOUT_SHARE, TEST_SHARE, Dataset, by_content
from greenprune.bench.data.found import Decoded, Found, Listing
from greenprune.bench.data.options import DataOptions
from greenprune.bench.data.pictures import PassingError, PictureError
from greenprune.bench.data.splits import LazySplit, Part, Split, by_class
from greenprune.bench.data.statistics import histograms, of_histograms
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import visible
from greenprune.bench.text import plural

MEMORY_BYTES = 2 * 2**30
"""Of decoded images; more are decoded by workers."""

AT_ONCE = 512

NAMED = 3
"""Of pictures that cannot be read."""


@dataclass(frozen=True)
class Examined:
    """What a look at every picture of a part gave.

    Attributes:
        readable: (N,) bool.
        reasons: why those that are not cannot be read, as text, by row.
        counts: (C, 256) int64, histograms of those that can.
        images: (M, C, size, size) uint8 of those that can; None where they were not kept.
    """

    readable: np.ndarray
    reasons: dict[int, str]
    counts: torch.Tensor
    images: np.ndarray | None


def assemble(name: str, found: Found, options: DataOptions) -> Dataset:
    """The data set.

    Raises:
        UserError: pictures cannot be read, there are too few of a class, or `options` has another number of classes.
    """
    if options.classes not in (None, len(found.class_names)):
        raise UserError(
            f"{found.place}: classes = {options.classes}: there are {len(found.class_names):,} class folders; allowed: "
            f"{len(found.class_names)}, or no such key"
        )
    count = sum(len(listing) for listing in found.listings.values())
    in_memory = fits(options, count)
    parts: dict[str, Part] = {}
    counts: dict[str, torch.Tensor] = {}
    notes = list(found.notes)
    unreadable: list[tuple[str, str]] = []
    for part, listing in complete(found.listings).items():
        examined = examine(name, listing, options, keep=in_memory)
        unreadable += [(listing.pictures.name(row), why) for row, why in examined.reasons.items()]
        rows = np.flatnonzero(examined.readable)
        readable = listing if len(rows) == len(listing) else listing.chosen(rows)
        parts[part] = _part(readable, examined, options, in_memory=in_memory)
        counts[part] = examined.counts
    if unreadable:
        said = _unreadable(sorted(unreadable), count)
        if not options.skip_unreadable:
            raise UserError(
                f"{found.place}: {said}; allowed are whole pictures, or --skip-unreadable to leave these out"
            )
        notes.append(f"{said}: left out")
    _refuse_missing(parts, found)
    notes += of_copies(parts, found.class_names)
    if options.mean is not None and options.std is not None:
        mean, std, given = options.mean, options.std, True
    else:
        mean, std = of_histograms(counts["train"])
        given = False
        if min(std) <= 0:
            raise UserError(
                f"{found.place}: a channel has the same value in every pixel of every training picture; allowed are pictures "
                "that differ"
            )
    return Dataset(
        name=name,
        classes=len(found.class_names),
        train=parts["train"],
        holdout=parts["holdout"],
        test=parts["test"],
        mean=mean,
        std=std,
        flip=options.flip,
        padding=max(1, options.size // 8),
        notes=tuple(map(visible, notes)),
        class_names=found.class_names,
        given=given,
    )


def fits(options: DataOptions, count: int) -> bool:
    """Whether so many images are to be held in memory."""
    if options.loading != "auto":
        return options.loading == "memory"
    return count * options.channels * options.size**2 <= MEMORY_BYTES


def workers_of(options: DataOptions) -> int:
    """Processes that decode: by default one for each core but one, which trains."""
    if options.workers is not None:
        return options.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


def examine(name: str, listing: Listing, options: DataOptions, *, keep: bool) -> Examined:
    """Decode every picture once; what is found is cached by what the pictures hold. Raises UserError: the machine fails.

    Args:
        keep: whether the images are wanted, too.
    """
    items = Decoded(listing.pictures, listing.targets, options.size, options.channels)

    def look() -> Arrays:
        counts = torch.zeros(options.channels, 256, dtype=torch.int64)
        images: list[np.ndarray] = []
        readable = np.zeros(len(listing), dtype=bool)
        reasons: dict[int, str] = {}
        for row, image in enumerate(_each(items)):
            if isinstance(image, str):
                reasons[row] = image
                continue
            readable[row] = True
            counts += histograms(image[None])
            if keep:
                images.append(image.numpy())
        arrays = {
            "readable": readable,
            "rows": np.array(list(reasons), dtype=np.int64),
            "reasons": np.array(list(reasons.values()), dtype=np.str_),
            "counts": counts.numpy(),
        }
        if keep:
            empty = np.zeros((0, options.channels, options.size, options.size), dtype=np.uint8)
            arrays["images"] = np.stack(images) if images else empty
        return arrays

    made_of = [listing.digests.tolist(), options.size, options.channels, keep, _decoder()]
    arrays = cached(_file_name(name), made_of, look)
    return Examined(
        readable=arrays["readable"],
        reasons=dict(zip(arrays["rows"].tolist(), arrays["reasons"].tolist(), strict=True)),
        counts=torch.from_numpy(arrays["counts"]),
        images=arrays.get("images"),
    )


def _each(items: Decoded) -> Iterator[torch.Tensor | str]:
    """Every image in turn, or why it cannot be read; decoded by threads, since Pillow lets others run meanwhile."""

    def one(row: int) -> torch.Tensor | str:
        try:
            return items[row][0]
        except PassingError as e:  # to be asked again, not to be remembered
            raise UserError(f"{items.name(row)}: {e}; that is no fault of the picture: start again") from e
        except PictureError as e:
            return str(e)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(items), AT_ONCE):  # or all of them would be decoded before the first is looked at
            yield from pool.map(one, range(start, min(start + AT_ONCE, len(items))))


def _decoder() -> str:
    """Of what decodes: another version may give other pixels of a JPEG."""
    import PIL

    return f"Pillow {PIL.__version__}"


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-._" else "-" for c in name)[:60]


def _part(listing: Listing, examined: Examined, options: DataOptions, *, in_memory: bool) -> Part:
    if in_memory:
        assert examined.images is not None
        return Split(torch.from_numpy(examined.images), listing.targets, listing.digests)
    items = Decoded(listing.pictures, listing.targets, options.size, options.channels)
    shape = (options.channels, options.size, options.size)
    rows = np.arange(len(listing))
    return LazySplit(items, rows, shape, listing.targets, listing.digests, workers_of(options))


def complete(listings: Mapping[str, Listing]) -> dict[str, Listing]:
    """With a held-out and a test part: where they are missing, a share of every class of the training part, by content."""
    found = dict(listings)
    for part, share in (("test", TEST_SHARE), ("holdout", HOLDOUT_SHARE)):
        if part not in found:
            train = found["train"]
            taken = by_content(train.digests, by_class(train.targets), share)
            found |= {part: train.chosen(np.flatnonzero(taken)), "train": train.chosen(np.flatnonzero(~taken))}
    return found


def _refuse_missing(parts: dict[str, Part], found: Found) -> None:
    """Raise UserError where a part has no picture, or none of a class."""
    least = len(parts) - len(found.listings) + 1
    for part, words in (("train", "train on"), ("test", "test with"), ("holdout", "hold out")):
        targets = parts[part].targets
        if targets is None or targets.ndim != 1:
            if not len(parts[part]):
                everything = sum(map(len, parts.values()))
                raise UserError(
                    f"{found.place}: has {plural(everything, 'picture')}, and none is left to {words}; allowed are at least "
                    f"{least} different pictures to train on, and one in each other part"
                )
            continue
        counts = torch.bincount(targets, minlength=len(found.class_names)).tolist()
        for label, name in enumerate(found.class_names):
            if not counts[label]:
                everything = sum(int((p.targets == label).sum()) for p in parts.values() if p.targets is not None)
                raise UserError(
                    f"{found.place}: the class {name} has {plural(everything, 'picture')}, and none is left to {words}; "
                    f"allowed are at least {least} different pictures of each class to train on, and one in each other part"
                )


def _unreadable(which: Sequence[tuple[str, str]], count: int) -> str:
    first = ", ".join(f"{name} ({why})" for name, why in which[:NAMED])
    more = f" and {len(which) - NAMED:,} more" if len(which) > NAMED else ""
    return f"{len(which):,} of {plural(count, 'picture')} cannot be read: {first}{more}"
