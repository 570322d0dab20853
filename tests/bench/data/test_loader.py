"""Images read ahead by workers are those in memory, bit for bit; and the same again after an interruption."""

from __future__ import annotations

import gc
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from greenprune.bench.data.batches import Batches, evaluation_batches
from greenprune.bench.data.data import Dataset
from greenprune.bench.data.load import load
from greenprune.bench.data.options import DataOptions
from greenprune.bench.data.splits import LazySplit, Split
from greenprune.bench.errors import UserError
from torch import Tensor

from tests.bench.data.made import class_folders


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return class_folders(tmp_path_factory.mktemp("data") / "set", {"a": 14, "b": 14}, size=16)


def of(folder: Path, **options) -> Dataset:
    return load(DataOptions(folder=str(folder), image_size=16, **options))


def batches(data: Dataset, augment: Sequence[str] = ("crop-flip",), **options) -> Batches:
    return Batches(
        data.train, batch_size=5, mean=data.mean, std=data.std, device="cpu", seed=3, augment=augment, padding=2,
        classes=data.classes, **options,
    )  # fmt: skip


def drawn(made: Batches, number: int = 2, first: int = 0) -> list[tuple[Tensor, Tensor]]:
    return list(made.epoch(number, first))


def same(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return bool(pairs) and all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in pairs)


NAMES = [
    ("none",),
    ("crop-flip",),
    ("resized-crop",),
    ("trivial-augment", "crop-flip"),
    ("crop-flip", "mixup", "cutmix"),
]


@pytest.mark.parametrize("names", NAMES)
def test_batches_are_the_same_in_memory_and_from_workers(folder: Path, names: tuple[str, ...]) -> None:
    held, lazy = of(folder), of(folder, loading="workers", workers=2)
    assert isinstance(held.train, Split)
    expected = drawn(batches(held, names))
    ahead = batches(lazy, names)
    assert same(drawn(ahead), expected)
    assert same(drawn(ahead, first=2), expected[2:])  # as a training goes on in the middle
    assert not same(drawn(ahead, 3), expected)
    assert same(drawn(batches(of(folder, loading="workers", workers=0), names)), expected)
    assert ahead.workers == 2
    assert ahead.waited_s > 0


@pytest.mark.parametrize("loading", ["memory", "workers"])
@pytest.mark.parametrize("names", [("crop-flip",), ("trivial-augment", "mixup")])
def test_shares_of_two_ranks_are_the_whole_batches(folder: Path, loading: str, names: tuple[str, ...]) -> None:
    data = of(folder, loading=loading, workers=1)
    whole = drawn(batches(data, names), first=1)
    own = [drawn(batches(data, names, share=(rank, 2)), first=1) for rank in range(2)]
    for batch, parts in zip(whole, zip(*own, strict=True), strict=True):
        for rank, part in enumerate(parts):
            assert all(torch.equal(a[rank::2], b) for a, b in zip(batch, part, strict=True))


def test_evaluation_is_the_same_in_memory_and_from_workers(folder: Path) -> None:
    held, lazy = of(folder), of(folder, loading="workers", workers=1)
    shown = [
        list(evaluation_batches(data.test, batch_size=4, mean=data.mean, std=data.std, device="cpu"))
        for data in (held, lazy)
    ]
    assert same(*shown)
    assert sum(len(targets) for _, targets in shown[0]) == len(held.test)


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("loading", ["memory", "workers"])
def test_no_generator_of_the_training_is_drawn_from(folder: Path, names: tuple[str, ...], loading: str) -> None:
    made = batches(of(folder, loading=loading, workers=0), names)
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    expected = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    drawn(made)
    assert (torch.rand(1), np.random.rand(), random.random()) == expected


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "forgotten"])
def test_workers_end_with_what_they_read_for_and_not_when_the_collector_comes(folder: Path, closed: bool) -> None:
    before = set(psutil.Process().children())
    made = batches(of(folder, loading="workers", workers=2))
    gc.collect()
    gc.disable()
    try:
        drawn(made)
        assert len(set(psutil.Process().children()) - before) == 2
        if closed:
            made.close()
        else:
            del made
        assert not set(psutil.Process().children()) - before
    finally:
        gc.enable()


def test_what_was_closed_reads_again(folder: Path) -> None:
    made = batches(of(folder, loading="workers", workers=1))
    expected = drawn(made)
    made.close()
    assert same(drawn(made), expected)


def test_mixed_targets_are_shares_of_classes(folder: Path) -> None:
    for images, targets in drawn(batches(of(folder), ("mixup",))):
        assert targets.shape == (len(images), 2)
        assert torch.allclose(targets.sum(1), torch.ones(len(images)))


def test_a_picture_that_vanishes_ends_the_training_with_a_sentence(folder: Path, tmp_path: Path) -> None:
    place = class_folders(tmp_path / "set", {"a": 10, "b": 10}, size=16)
    data = of(place, loading="workers", workers=1)
    for path in place.glob("*/*.png"):
        path.unlink()
    with pytest.raises(UserError, match=r"\.png cannot be decoded: .*it could be read before"):
        drawn(batches(data))


@pytest.mark.parametrize("loading", ["memory", "workers"])
@pytest.mark.parametrize("void", [255, 0, -100])
def test_masks_are_cut_as_their_pictures_are(loading: str, void: int) -> None:
    """A mask that repeats its picture still does after augmentation; outside of it nothing counts."""
    images = torch.randint(1, 200, (10, 1, 16, 16), dtype=torch.uint8)
    split = Split(images, images[:, 0].long())
    lazy = LazySplit(split, np.arange(10), split.shape, split.targets, np.array(["it"]), workers=0)
    part = split if loading == "memory" else lazy
    made = Batches(part, batch_size=5, mean=(0.0,), std=(1 / 255,), device="cpu", seed=0, padding=3, void=void)
    for shown, masks in drawn(made):
        inside = masks != void
        assert not inside.all()
        assert torch.equal(shown[:, 0][inside].round().long(), masks[inside])
        assert (shown[:, 0][~inside] == 0).all()
    resized = Batches(split, batch_size=5, mean=(0.0,), std=(1 / 255,), device="cpu", seed=0, augment=("resized-crop",))
    assert all(masks.shape == (5, 16, 16) and masks.dtype == torch.int64 for _, masks in drawn(resized))


def test_masks_that_are_read_with_their_pictures_are_cut_as_those_are_too() -> None:
    """Nobody knows the targets before: the first one tells that they are masks."""
    images = torch.randint(1, 200, (10, 1, 16, 16), dtype=torch.uint8)
    split = Split(images, images[:, 0].long())
    lazy = LazySplit(split, np.arange(10), split.shape, None, np.array(["it"]), workers=0)
    more = {"batch_size": 5, "mean": (0.0,), "std": (1 / 255,), "device": "cpu", "seed": 0, "classes": 200}
    drawn_of = [drawn(Batches(part, augment=("resized-crop",), **more)) for part in (split, lazy)]  # type: ignore[arg-type]
    assert same(*drawn_of)
    for names in (("trivial-augment",), ("mixup",)):
        with pytest.raises(UserError, match=r"mask|classes"):
            Batches(lazy, augment=names, **more)  # type: ignore[arg-type]


OWN = """
import torch


def darker(size):
    return lambda image: image // 2


def wrong(size):
    return lambda image: image[:, 1:]


nothing = 3
"""


def test_an_augmentation_of_ones_own(folder: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "own_augmentations.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    data = of(folder, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    plain, dark = (drawn(batches(data, names)) for names in (("none",), ("own_augmentations:darker",)))
    assert torch.equal(dark[0][0].round(), plain[0][0].round().div(2).floor())
    for name, said in (("wrong", "gives torch.uint8 (3, 15, 16)"), ("nothing", "is a int"), ("darkr", "did you mean")):
        with pytest.raises(UserError, match="own_augmentations") as caught:
            batches(data, (f"own_augmentations:{name}",))
        assert said in str(caught.value)


def test_mixing_needs_classes() -> None:
    split = Split(torch.zeros(10, 3, 8, 8, dtype=torch.uint8), torch.zeros(10, 8, 8, dtype=torch.int64))
    with pytest.raises(UserError, match='augment = "mixup": mixes classes'):
        Batches(
            split, batch_size=5, mean=(0.0,) * 3, std=(1.0,) * 3, device="cpu", seed=0, augment=("mixup",), classes=3
        )
