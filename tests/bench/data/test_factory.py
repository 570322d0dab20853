"""torch Datasets of a user's own: map-style and iterable, targets of any shape, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from greenprune.bench.data.batches import Batches, evaluation_batches
from greenprune.bench.data.data import Dataset, content_hash
from greenprune.bench.data.load import load
from greenprune.bench.data.options import DataOptions
from greenprune.bench.errors import UserError
from torch import Tensor

OWN = """
import random

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

SIZE = 16


def image(i):
    return torch.from_numpy(np.random.default_rng(i).integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8))


class Own(Dataset):
    def __init__(self, count, item):
        self.count, self.item = count, item

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        return self.item(i)


class Coming(IterableDataset):
    def __init__(self, count, fewer=0):
        self.count, self.fewer, self.epoch = count, fewer, 0

    def __len__(self):
        return self.count

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        order = list(range(self.count))
        random.Random(self.epoch).shuffle(order)
        for i in order[: self.count - self.fewer * self.epoch]:
            yield image(i), i % 2


def made(item, count=20):
    return {"train": Own(count, item), "test": Own(6, item)}


def classes():
    return made(lambda i: (image(i), i % 2))


def pillow():
    return made(lambda i: (Image.fromarray(image(i).permute(1, 2, 0).numpy()).resize((40, 20)), i % 2))


def drawing():
    return made(lambda i: (image(i) // (1 + random.randrange(3) + np.random.randint(3)), i % 2))


def floats():
    return made(lambda i: (image(i).float() / 100, i % 2))


def several():
    return made(lambda i: (image(i), torch.tensor([i % 2, 1, 0])))


def numbers():
    return made(lambda i: (image(i), 0.5 * i))


def masks():
    return made(lambda i: (image(i), torch.full((SIZE, SIZE), i % 3))) | {"classes": 3}


def scaled_masks():
    return made(lambda i: (image(i), torch.full((SIZE, SIZE), (i % 3) / 255))) | {"classes": 3}


def odd_length():
    class Odd(Own):
        __len__ = lambda self: self.count / 2

    return {"train": Odd(20, lambda i: (image(i), i % 2)), "test": Own(6, lambda i: (image(i), i % 2))}


def no_length():
    class Unknown(Own):
        def __len__(self):
            raise RuntimeError("nobody knows")

    return {"train": Own(20, lambda i: (image(i), i % 2)), "test": Unknown(6, lambda i: (image(i), i % 2))}


def coming():
    return {"train": Coming(20), "holdout": Coming(4), "test": Coming(6)}


def short():
    return {"train": Coming(20, fewer=5), "holdout": Coming(4), "test": Coming(6)}


def three():
    return made(lambda i: (image(i), i % 2, "more"))


def words():
    return made(lambda i: (image(i), "cat"))


def missing():
    return {"train": Own(20, lambda i: (image(i), i % 3)), "test": Own(2, lambda i: (image(i), i % 3))}


def nothing():
    return 3


def half():
    return {"train": Own(20, lambda i: (image(i), 0))}


def fails():
    raise OSError("the disk is gone")


def saying(**more):
    return lambda: classes() | more


one_mean = saying(mean=0.5, std=[1, 1, 1])
words_of_classes = saying(classes="ten")
no_std = saying(mean=(0, 0, 0), std=[0.0])
no_width = saying(mean=(0, 0, 0), std=(0, 1, 1))
one_name = saying(class_names="cd")
of_numpy = saying(classes=np.int64(2), mean=np.full(3, 0.5), std=torch.ones(3), class_names=["c", "d"])


class Told(Own):
    def __init__(self, count, item, **told):
        super().__init__(count, item)
        self.__dict__ |= told


def told(**more):
    item = lambda i: (image(i), i % 2)
    return lambda: {part: Told(n, item, **{k: v(n) for k, v in more.items()}) for part, n in {"train": 20, "test": 6}.items()}


names_told = told(labels=lambda n: ["cat", "dog"] * (n // 2))
ragged_told = told(targets=lambda n: [[0], [0, 1]] * (n // 2))
others_told = told(targets=lambda n: list(range(n)))
rightly_told = told(targets=lambda n: [i % 2 for i in range(n)])


def larger_holdout():
    larger = Own(4, lambda i: (torch.zeros(3, 20, 20), i % 2))
    return floats() | {"holdout": larger}


def grey():
    return made(lambda i: (torch.full((3, SIZE, SIZE), 9, dtype=torch.uint8), i % 2))


def large():
    return made(lambda i: (image(i), 2**40 if i == 5 else i % 2))
"""


@pytest.fixture(autouse=True)
def at_work(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "own_images.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)


def of(name: str, **options) -> Dataset:
    return load(DataOptions(factory=f"own_images:{name}", **{"image_size": 16, "workers": 0, **options}))


def batches(data: Dataset, **options) -> Batches:
    return Batches(
        data.train, batch_size=4, mean=data.mean, std=data.std, device="cpu", seed=1, padding=2, classes=data.classes,
        **options,
    )  # fmt: skip


def same(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return bool(pairs) and all(torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in pairs)


@pytest.mark.parametrize(
    ("name", "classes", "shape", "dtype"),
    [
        ("classes", 2, (), torch.int64),
        ("pillow", 2, (), torch.int64),
        ("several", 3, (3,), torch.float32),
        ("numbers", 1, (1,), torch.float32),
        ("masks", 3, (16, 16), torch.int64),
    ],
)
def test_targets_of_any_shape(name: str, classes: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    data = of(name)
    assert (data.classes, data.shape) == (classes, (3, 16, 16))
    assert data.images == {"train": 18, "holdout": 2, "test": 6}
    for images, targets in batches(data).epoch(1):
        assert images.shape == (4, 3, 16, 16)
        assert targets.shape == (4, *shape)
        assert targets.dtype == dtype
    (evaluated,) = evaluation_batches(data.test, batch_size=6, mean=data.mean, std=data.std, device="cpu")
    assert evaluated[1].shape == (6, *shape)


def test_held_in_memory_they_are_the_same() -> None:
    lazy, held = of("classes"), of("classes", loading="memory")
    assert same(list(batches(lazy).epoch(2)), list(batches(held).epoch(2)))
    assert content_hash(lazy) == content_hash(of("classes"))


@pytest.mark.parametrize("name", ["drawing", "coming"])
def test_what_is_random_in_them_follows_from_seed_and_epoch(name: str) -> None:
    made = batches(of(name, workers=1))
    second = list(made.epoch(2))
    assert same(list(batches(of(name, workers=1)).epoch(2)), second)
    assert same(list(made.epoch(2, first=2)), second[2:])
    assert not same(list(made.epoch(3)), second)


def test_floats_are_taken_as_they_are() -> None:
    data = of("floats")
    assert any("come as floats" in note for note in data.notes)
    (images, _), *_ = evaluation_batches(data.test, batch_size=6, mean=data.mean, std=data.std, device="cpu")
    assert float(images.max()) == pytest.approx(2.55, abs=0.05)
    assert next(iter(batches(data).epoch(0)))[0].max() <= 2.55


def test_floats_are_not_held_in_memory() -> None:
    with pytest.raises(UserError, match=r'loading = "memory": its images are floats, .*; allowed: "workers" or "auto"'):
        of("floats", loading="memory")


def test_one_that_ends_early_is_told() -> None:
    made = batches(of("short"))
    assert len(list(made.epoch(0))) == 5
    with pytest.raises(UserError, match="the data set ends before 20 images are through"):
        list(made.epoch(1))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("three", "train[0] is 3 values; allowed is (image, target)"),
        ("words", "train[0] its target is a str; allowed is a class, numbers, or a mask of classes"),
        (
            "scaled_masks",
            "train[0] its target is a mask of torch.float32; allowed is one of whole numbers, the classes",
        ),
        (
            "odd_length",
            "its train has no usable __len__ (TypeError: 'float' object cannot be interpreted as an integer)",
        ),
        ("no_length", "its test has no usable __len__ (RuntimeError: nobody knows); allowed is"),
        ("missing", "of class 2 there is no image to test with"),
        ("nothing", "returns a int; allowed is a function without arguments"),
        ("half", "returns train; allowed is"),
        ("fails", "fails with OSError: the disk is gone"),
        ("one_mean", "returns mean = 0.5: allowed: a list of numbers, one for each channel"),
        ("words_of_classes", "returns classes = 'ten': allowed: a whole number from 1 to 100,000"),
        ("no_std", "returns std = [0.0]: allowed: 3 numbers, one for each channel"),
        ("no_width", "returns std = [0.0, 1.0, 1.0]: allowed: numbers above 0"),
        ("one_name", "returns class_names = 'cd'; allowed: a list of texts, one for each class"),
        ("larger_holdout", "the images of train and holdout differ in shape or type"),
        ("grey", "a channel has the same value in every pixel of every training image"),
        ("large", "has the class 1099511627776; allowed is 0 to 99999"),
        ("clases", 'has no "clases" (did you mean "classes"?)'),
    ],
)
def test_one_that_returns_the_wrong_thing_is_refused(name: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        of(name)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_it_says_may_be_of_numpy_and_torch() -> None:
    data = of("of_numpy")
    assert (data.classes, data.class_names, data.mean, data.std) == (2, ("c", "d"), (0.5,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("name", ["names_told", "ragged_told", "others_told", "rightly_told"])
def test_targets_that_are_told_are_believed_where_items_have_the_same(name: str) -> None:
    data = of(name, classes=2, mean=(0.5,) * 3, std=(1.0,) * 3)
    assert data.test.targets.tolist() == [0, 1] * 3
    assert data.classes == of(name).classes == 2
    assert content_hash(data) == content_hash(of("rightly_told", classes=2, mean=(0.5,) * 3, std=(1.0,) * 3))
