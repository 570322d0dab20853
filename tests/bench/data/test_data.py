"""Datasets: right pixels and labels, fixed splits, and where they come from."""

from __future__ import annotations

import io
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from greenprune.bench.data.load import load
from greenprune.bench.data.names import DATASETS
from greenprune.bench.data.place import data_root
from PIL import Image
from sklearn.datasets import load_digits

from tests.bench.data.cifar import as_counter, check_form, encode, expected_counter, noise, sentence, write

# Digits


def test_digits_are_the_bundled_ones_resized():
    data = load("digits", "a/folder/that/does/not/exist")  # it needs none
    check_form(data)
    assert [len(s) for s in (data.train, data.holdout, data.test)] == [1295, 143, 359]
    assert (data.classes, data.flip, data.padding, data.notes) == (10, False, 2, ())
    bunch = load_digits()
    small = (Image.fromarray((image * 255 / 16).astype(np.float32)) for image in bunch.images)
    large = [np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR)) for image in small]
    pixels = np.round(large).astype(np.uint8)[..., None].repeat(3, axis=3)
    assert as_counter(data.train, data.holdout, data.test) == expected_counter(pixels, bunch.target.tolist())


def test_digits_splits_have_every_class_alike_and_never_change():
    data = load("digits")
    everything = torch.bincount(torch.cat([data.train.targets, data.holdout.targets, data.test.targets]))
    for split, share in ((data.train, 0.72), (data.holdout, 0.08), (data.test, 0.2)):
        assert (torch.bincount(split.targets) - share * everything).abs().max() < 1
    torch.manual_seed(1)
    np.random.seed(1)
    again = load("digits")
    assert torch.equal(data.holdout.images, again.holdout.images)
    assert torch.equal(data.test.images, again.test.images)
    # A fixed split means fixed across versions too: a run's record is compared with runs made elsewhere.
    assert data.holdout.targets[:12].tolist() == [4, 5, 0, 0, 8, 3, 3, 1, 7, 0, 1, 5]
    assert data.test.targets[:12].tolist() == [3, 5, 7, 5, 0, 9, 4, 0, 2, 3, 3, 3]


@pytest.mark.parametrize("name", DATASETS[:2])
def test_statistics_are_those_of_the_whole_training_set(name, slice_of_cifar):
    data = load(name, slice_of_cifar)
    images = torch.cat([data.train.images, data.holdout.images]).double() / 255
    assert data.mean == pytest.approx(images.mean(dim=(0, 2, 3)).tolist(), abs=1e-12)
    assert data.std == pytest.approx(images.std(dim=(0, 2, 3), correction=0).tolist(), abs=1e-12)


# Parquet


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
@pytest.mark.parametrize("image_column", ["img", "image"])
def test_cifar10_is_read_from_parquet(tmp_path, image_format, image_column):
    pixels, labels = noise(25)
    encoded = [encode(p, image_format) for p in pixels]
    write(tmp_path / "cifar10/train-0.parquet", encoded[:20], {"label": labels[:20]}, image_column)
    write(tmp_path / "cifar10/test-0.parquet", encoded[20:], {"label": labels[20:]}, image_column)
    data = load("cifar10", tmp_path)
    check_form(data)
    assert as_counter(data.train, data.holdout) == expected_counter(pixels[:20], labels[:20])
    assert torch.equal(data.test.images, torch.from_numpy(pixels[20:]).permute(0, 3, 1, 2))
    assert data.test.targets.tolist() == labels[20:]
    assert (data.classes, data.flip, data.padding) == (10, True, 4)


@pytest.mark.parametrize("label_column", ["fine_label", "label"])
def test_cifar100_takes_the_fine_labels(tmp_path, label_column):
    pixels, labels = noise(200, classes=100)
    columns = {label_column: labels, "coarse_label": [19] * 200}
    write(tmp_path / "train-00000-of-00001.parquet", [encode(p) for p in pixels], columns)
    write(tmp_path / "test-00000-of-00001.parquet", [encode(p) for p in pixels], columns)
    data = load("cifar100", str(tmp_path))  # the folder itself holds the files
    assert data.classes == 100
    assert as_counter(data.train, data.holdout) == expected_counter(pixels, labels)


def test_shards_are_read_in_order_and_a_tenth_of_each_class_is_held_out(slice_of_cifar):
    data = load("cifar10", slice_of_cifar)
    pixels, labels = noise(50)
    assert as_counter(data.train, data.holdout) == expected_counter(pixels[:40], labels[:40])
    assert as_counter(data.test) == expected_counter(pixels[40:], labels[40:])
    assert torch.bincount(data.holdout.targets).tolist() == [1] * 10  # a tenth of four, but at least one
    order = {p.transpose(2, 0, 1).tobytes(): i for i, p in enumerate(pixels)}
    positions = [order[image.numpy().tobytes()] for image in data.train.images]
    assert positions == sorted(positions)
    assert data.notes == ("a slice: 40 of 50,000 images (training set)", "a slice: 10 of 10,000 images (test set)")


def test_grey_images_become_rgb(tmp_path):
    pixels, labels = noise(1)
    grey = Image.fromarray(pixels[0, :, :, 0])
    buffer = io.BytesIO()
    grey.save(buffer, "PNG")
    for split in ("train", "test"):
        write(tmp_path / f"{split}-0.parquet", [buffer.getvalue()] * 2, {"label": labels * 2})
    image = load("cifar10", tmp_path).test.images[0]
    assert all(torch.equal(channel, torch.from_numpy(pixels[0, :, :, 0])) for channel in image)


# Where data comes from


def test_the_data_folder_is_the_argument_then_the_environment_then_the_cache(tmp_path, cache, monkeypatch):
    assert data_root(None) == cache
    monkeypatch.setenv("GREENPRUNE_DATA", "~/data")
    assert data_root(None) == Path.home() / "data"
    assert data_root(tmp_path) == tmp_path
    monkeypatch.setenv("GREENPRUNE_DATA", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the specification
    assert data_root(None) == Path.home() / ".cache" / "greenprune"


def test_without_files_torchvision_downloads(tmp_path, monkeypatch):
    class Stub:
        def __init__(self, root, train, download):
            assert (root, download) == (tmp_path, True)
            pixels, self.targets = noise(40 if train else 10, classes=20, seed=int(train))
            self.data = pixels

    monkeypatch.setattr(torchvision.datasets, "CIFAR100", Stub)
    data = load("cifar100", tmp_path)
    check_form(data)
    assert as_counter(data.train, data.holdout) == expected_counter(*noise(40, classes=20, seed=1))
    assert as_counter(data.test) == expected_counter(*noise(10, classes=20, seed=0))


@pytest.mark.parametrize(
    "failure", [urllib.error.URLError("Name or service not known"), RuntimeError("File not found or corrupted.")]
)
def test_a_failed_download_says_what_was_tried(tmp_path, monkeypatch, failure):
    def fail(*_, **__):
        raise failure

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fail)
    message = sentence("cifar10", tmp_path)
    for part in (str(tmp_path / "cifar10"), "downloading", str(failure).strip("."), "--data", "GREENPRUNE_DATA"):
        assert part in message
