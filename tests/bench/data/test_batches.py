"""Batches: the same pixels as a slow loop over single images, and nothing random but (seed, epoch)."""

from __future__ import annotations

import itertools

import greenprune.bench.data.batches
import numpy as np
import pytest
import torch
from greenprune.bench.data.batches import Batches, evaluation_batches, plan_epoch
from greenprune.bench.data.draw import generator as made
from greenprune.bench.data.splits import Split
from greenprune.bench.errors import UserError

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
BORDER = (125, 122, 115)  # MEAN in grey levels


def split_of(count: int, height: int = 32, width: int = 32) -> Split:
    """Noise, so that every crop of every image is unlike all others; image i has label i."""
    random = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=random)
    return Split(images, torch.arange(count))


def batches_of(split: Split, **options) -> Batches:
    settings = {
        "batch_size": 8,
        "mean": MEAN,
        "std": STD,
        "device": "cpu",
        "seed": 0,
        "augment": ("crop-flip",),
        **options,
    }
    return Batches(split, **settings)


def normalise(pixels: np.ndarray) -> np.ndarray:
    """(3, H, W) grey levels."""
    mean, std = np.array(MEAN)[:, None, None], np.array(STD)[:, None, None]
    return (pixels / 255 - mean) / std


def crop(image: np.ndarray, top: int, left: int, flipped: bool, padding: int) -> np.ndarray:
    """One augmented image, pixel by pixel from the definition: (3, H, W) grey levels."""
    _, height, width = image.shape
    result = np.empty_like(image)
    for y, x in itertools.product(range(height), range(width)):
        from_y, from_x = y + top - padding, x + left - padding
        inside = 0 <= from_y < height and 0 <= from_x < width
        result[:, y, width - 1 - x if flipped else x] = image[:, from_y, from_x] if inside else BORDER
    return result


@pytest.mark.parametrize(("padding", "flip", "drop_last"), [(4, True, True), (2, False, True), (4, True, False)])
@pytest.mark.parametrize("shape", [(32, 32), (10, 14)])
def test_batches_equal_a_loop_over_single_images(padding, flip, drop_last, shape):
    split = split_of(29, *shape)
    batches = batches_of(split, padding=padding, flip=flip, drop_last=drop_last, seed=3)
    plan = plan_epoch(29, seed=3, number=7, padding=padding, flip=flip)
    rows = zip(plan.order.tolist(), plan.top.tolist(), plan.left.tolist(), plan.flipped.tolist(), strict=True)
    shown = [(i, normalise(crop(split.images[i].numpy(), *how, padding))) for i, *how in rows]
    got = list(batches.epoch(7))
    assert [len(y) for _, y in got] == ([8, 8, 8] if drop_last else [8, 8, 8, 5])
    assert len(got) == len(batches)
    images, labels = torch.cat([x for x, _ in got]), torch.cat([y for _, y in got])
    expected = shown[: len(labels)]
    assert labels.tolist() == [i for i, _ in expected]
    # A grey level is 0.015: equal to 1e-5 is the same pixel.
    torch.testing.assert_close(images.double(), torch.tensor(np.stack([x for _, x in expected])), rtol=0, atol=1e-5)


def test_every_image_shown_is_some_crop_of_the_image_with_its_label():
    """Without a look at the plan: all 50 augmentations of every image are tried."""
    split = split_of(24, 8, 8)
    found = set()
    for epoch in range(6):
        for images, labels in batches_of(split, padding=2).epoch(epoch):
            for image, label in zip(images, labels.tolist(), strict=True):
                variants = itertools.product(range(5), range(5), (False, True))
                fits = [
                    variant
                    for variant in variants
                    if np.allclose(normalise(crop(split.images[label].numpy(), *variant, 2)), image.numpy(), atol=1e-5)
                ]
                assert len(fits) == 1
                found.update(fits)
    tops, lefts, flips = (set(values) for values in zip(*found, strict=True))
    assert (tops, lefts, flips) == (set(range(5)), set(range(5)), {False, True})


@pytest.mark.parametrize("augment", [("crop-flip",), ("none",)])
def test_every_image_appears_once_in_an_epoch_and_the_order_changes(augment):
    batches = batches_of(split_of(24), augment=augment)
    orders = [[label for _, labels in batches.epoch(n) for label in labels.tolist()] for n in range(3)]
    assert all(sorted(order) == list(range(24)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_without_augmentation_images_come_as_they_are():
    split = split_of(24)
    for images, labels in batches_of(split, augment=("none",)).epoch(0):
        expected = torch.stack([torch.tensor(normalise(split.images[i].numpy())) for i in labels.tolist()])
        torch.testing.assert_close(images.double(), expected, rtol=0, atol=1e-5)


def epoch_of(number: int, **options) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*batches_of(split_of(24), **options).epoch(number), strict=True)
    return torch.cat(images), torch.cat(labels)


def test_batches_depend_on_seed_and_epoch_alone():
    torch.manual_seed(1)
    images, labels = epoch_of(2)
    torch.manual_seed(2)
    batches = batches_of(split_of(24))
    list(batches.epoch(0))  # history has no influence
    again = list(batches.epoch(2))
    assert torch.equal(torch.cat([x for x, _ in again]), images)
    assert torch.equal(torch.cat([y for _, y in again]), labels)
    assert torch.equal(epoch_of(2, batch_size=4)[0], images)


@pytest.mark.parametrize(("number", "options"), [(3, {}), (2, {"seed": 1})])
def test_another_seed_or_epoch_gives_another_order_and_other_crops(number, options):
    plan = plan_epoch(1000, seed=0, number=2, padding=4, flip=True)
    other = plan_epoch(1000, **{"seed": 0, "number": number, "padding": 4, "flip": True, **options})
    # Independent draws agree by chance only: expected are 1, 111, 111 and 500 of 1,000.
    agreement = [
        (getattr(plan, name) == getattr(other, name)).sum().item() for name in ("order", "top", "left", "flipped")
    ]
    assert agreement[0] < 10
    assert all(60 < n < 170 for n in agreement[1:3])
    assert 420 < agreement[3] < 580
    assert not torch.equal(epoch_of(2)[0], epoch_of(number, **options)[0])


def test_no_two_seeds_and_epochs_share_a_generator_nor_do_order_and_augmentation(monkeypatch):
    used = []

    def recording(*arguments, **options):
        generator = made(*arguments, **options)
        used.append(generator.initial_seed())
        return generator

    monkeypatch.setattr(greenprune.bench.data.batches, "generator", recording)
    for seed, number in itertools.product(range(6), range(6)):
        plan_epoch(1, seed=seed, number=number, padding=4, flip=True)
    assert len(used) == len(set(used)) == 72


def test_the_order_does_not_depend_on_the_augmentation():
    assert torch.equal(epoch_of(1)[1], epoch_of(1, augment=("none",))[1])
    assert torch.equal(epoch_of(1)[1], epoch_of(1, padding=2, flip=False)[1])


def test_offsets_and_flips_are_uniform():
    plan = plan_epoch(9000, seed=0, number=0, padding=4, flip=True)
    for offsets in (plan.top, plan.left):
        counts = torch.bincount(offsets)
        assert len(counts) == 9
        assert (counts - 1000).abs().max() < 150  # five standard deviations
    assert abs(plan.flipped.sum().item() - 4500) < 240
    assert not plan_epoch(9000, seed=0, number=0, padding=4, flip=False).flipped.any()


@pytest.mark.parametrize("channels_last", [True, False])
def test_batches_are_float32_in_the_memory_format_asked_for(channels_last):
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    split = split_of(24)
    evaluation = evaluation_batches(split, batch_size=8, mean=MEAN, std=STD, device="cpu", channels_last=channels_last)
    training = batches_of(split, channels_last=channels_last).epoch(0)
    for images, labels in itertools.chain(training, evaluation):
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert images.shape == (8, 3, 32, 32)
        assert images.is_contiguous(memory_format=memory_format)


def test_evaluation_shows_everything_in_order_and_as_it_is():
    split = split_of(20)
    got = list(evaluation_batches(split, batch_size=8, mean=MEAN, std=STD, device="cpu"))
    assert [len(y) for _, y in got] == [8, 8, 4]
    assert torch.cat([y for _, y in got]).tolist() == list(range(20))
    expected = np.stack([normalise(image) for image in split.images.numpy()])
    torch.testing.assert_close(torch.cat([x for x, _ in got]).double(), torch.tensor(expected), rtol=0, atol=1e-5)


def test_batches_can_be_changed_without_changing_the_data():
    split = split_of(24)
    before = split.images.clone()
    batches = batches_of(split)
    for images, labels in itertools.chain(
        batches.epoch(0), evaluation_batches(split, batch_size=8, mean=MEAN, std=STD, device="cpu")
    ):
        images.zero_()
        labels.zero_()
    assert torch.equal(split.images, before)
    images, labels = zip(*batches.epoch(2), strict=True)
    assert torch.equal(torch.cat(images), epoch_of(2)[0])
    assert torch.equal(torch.cat(labels), epoch_of(2)[1])


@pytest.mark.parametrize("batch_size", [0, 25])
def test_a_batch_size_that_gives_no_batch_is_refused(batch_size):
    with pytest.raises(UserError, match=f"batch_size = {batch_size}: allowed is 1 to 24"):
        batches_of(split_of(24), batch_size=batch_size)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_the_gpu_shows_the_same_batches():
    images, labels = epoch_of(2, device="cuda")
    torch.testing.assert_close(images.cpu(), epoch_of(2)[0], rtol=0, atol=1e-5)
    assert torch.equal(labels.cpu(), epoch_of(2)[1])
