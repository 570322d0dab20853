"""A part of the training images: every class alike, always the same ones, and said."""

from __future__ import annotations

import pytest
import torch
from greenprune.bench.data.data import limited
from greenprune.bench.data.load import load
from greenprune.bench.errors import UserError


def test_every_class_alike_and_always_the_same() -> None:
    data = load("digits")
    part = limited(data, 200)
    assert len(part.train) == 200
    shares = torch.bincount(part.train.targets) / torch.bincount(data.train.targets)
    assert float(shares.max() - shares.min()) < 0.02
    assert torch.equal(part.train.images, limited(data, 200).train.images)
    assert part.holdout is data.holdout
    assert part.test is data.test
    assert part.notes == ("200 of 1,295 training images (train_images of the suite)",)


def test_all_of_them_is_no_part() -> None:
    data = load("digits")
    assert limited(data, len(data.train)) is data


@pytest.mark.parametrize("count", [0, 9, 1296])
def test_more_than_there_are_and_fewer_than_the_classes_are_refused(count: int) -> None:
    with pytest.raises(UserError, match=f"train_images = {count}: allowed is 10 to 1295, .* each of its 10 classes"):
        limited(load("digits"), count)


def test_one_image_of_each_class_is_enough() -> None:
    assert sorted(limited(load("digits"), 10).train.targets.tolist()) == list(range(10))
