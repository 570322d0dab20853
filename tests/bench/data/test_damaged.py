"""Data that is damaged, incomplete or not what was published: one sentence with the place, the fault, and what is allowed."""

from __future__ import annotations

import dataclasses

import greenprune.bench.data.sources.cifar
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from greenprune.bench.data.load import load

from tests.bench.data.cifar import GOOD, REAL, check_form, encode, noise, sentence, write

SHARD = "cifar10/train-00001-of-00002.parquet"
LARGE = encode(np.zeros((31, 33, 3), dtype=np.uint8))


def test_unknown_datasets_are_refused():
    assert sentence("cifar11", None).startswith('dataset = "cifar11" is unknown (did you mean "cifar1')


def test_a_missing_data_folder_is_named(tmp_path):
    message = sentence("cifar10", tmp_path / "nowhere")
    assert message.startswith(f"{tmp_path / 'nowhere'}: there is no such data folder")
    assert "--data" in message


@pytest.mark.parametrize(
    ("remove", "expected"),
    [
        ("train-00001-of-00002", "train-00001-of-00002.parquet missing; allowed is the complete set of 2 files"),
        ("test-00000-of-00001", "there is no test-*.parquet"),
    ],
)
def test_missing_shards_are_named(slice_of_cifar, remove, expected):
    load("cifar10", slice_of_cifar)  # decoded and cached: an incomplete folder is noticed all the same
    (slice_of_cifar / "cifar10" / f"{remove}.parquet").unlink()
    message = sentence("cifar10", slice_of_cifar)
    assert message.startswith(str(slice_of_cifar / "cifar10"))
    assert expected in message


def test_shards_of_two_sets_are_not_mixed(slice_of_cifar):
    folder = slice_of_cifar / "cifar10"
    (folder / "train-00001-of-00002.parquet").rename(folder / "train-00001-of-00003.parquet")
    assert "tell of 2 and of 3 files" in sentence("cifar10", slice_of_cifar)


@pytest.mark.parametrize("keep", [0, 4, 0.5, 0.999])
def test_a_truncated_file_is_named(slice_of_cifar, keep):
    path = slice_of_cifar / "cifar10" / "train-00001-of-00002.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    message = sentence("cifar10", slice_of_cifar)
    assert message.startswith(f"{path}: cannot be read as Parquet (")
    assert message.endswith("allowed is a complete Parquet file")


def test_damage_inside_a_file_is_named(slice_of_cifar):
    path = slice_of_cifar / "cifar10" / "train-00001-of-00002.parquet"
    content = bytearray(path.read_bytes())
    content[8:200] = bytes(192)  # the first page's header; the footer is whole
    path.write_bytes(content)
    assert sentence("cifar10", slice_of_cifar).startswith(f"{path}: cannot be read as Parquet (")


@pytest.mark.parametrize(
    ("images", "columns", "expected"),
    [
        ([GOOD], {"labels": [1]}, "no label column among img, labels; allowed is label"),
        ([GOOD], {"label": ["cat"]}, "column label has type string; allowed are integers"),
        ([GOOD, GOOD], {"label": [9, 10]}, "row 1: label = 10; allowed is 0 to 9"),
        ([GOOD, GOOD], {"label": [-1, 3]}, "row 0: label = -1; allowed is 0 to 9"),
        ([GOOD, GOOD], {"label": [1, None]}, "row 1: label = None; allowed is 0 to 9"),
        ([GOOD] * 1500 + [b"GIF?"], {"label": [0] * 1501}, "row 1500: the image cannot be decoded: cannot identify"),
        ([GOOD, GOOD[:-900]], {"label": [0, 0]}, "row 1: the image cannot be decoded: "),
        ([GOOD, None], {"label": [0, 0]}, "row 1: holds no image bytes"),
        ([GOOD, LARGE], {"label": [0, 0]}, "row 1: the image has 33×31 pixels; allowed is 32×32"),
    ],
)
def test_bad_columns_and_rows_are_named(slice_of_cifar, images, columns, expected):
    write(slice_of_cifar / SHARD, images, columns)
    message = sentence("cifar10", slice_of_cifar)
    assert message.startswith(str(slice_of_cifar / SHARD))
    assert expected in message


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("picture", [{"bytes": GOOD}], "there is no image column among picture, label; allowed is img or image"),
        ("img", [GOOD], "column img has type binary; allowed is a struct with a field bytes"),
    ],
)
def test_bad_image_columns_are_named(slice_of_cifar, column, values, expected):
    pq.write_table(pa.table({column: values, "label": [1]}), slice_of_cifar / SHARD)
    assert sentence("cifar10", slice_of_cifar) == f"{slice_of_cifar / SHARD}: {expected}"


def test_too_few_images_to_hold_one_out_are_refused(tmp_path):
    for split in ("train", "test"):
        write(tmp_path / f"{split}-0.parquet", [GOOD, GOOD], {"label": [0, 1]})
    assert sentence("cifar10", tmp_path).startswith("cifar10: with 2 training images there is nothing to hold out")


def test_files_without_rows_are_refused(slice_of_cifar):
    test = slice_of_cifar / "cifar10/test-00000-of-00001.parquet"
    write(test, [], {"label": pa.array([], pa.int64())})
    assert sentence("cifar10", slice_of_cifar).startswith(f"{test}: no rows")


# What is published is checked


@pytest.fixture
def small_publication(monkeypatch) -> None:
    """As if CIFAR-10 had 40 training and 10 test images of uniform noise."""
    published = greenprune.bench.data.sources.cifar._CIFAR["cifar10"]
    small = dataclasses.replace(published, train_images=40, test_images=10, mean=(0.5, 0.5, 0.5))
    monkeypatch.setitem(greenprune.bench.data.sources.cifar._CIFAR, "cifar10", small)
    monkeypatch.setattr(greenprune.bench.data.sources.cifar, "MEAN_TOLERANCE", 0.01)


def test_a_complete_set_has_no_note(slice_of_cifar, small_publication):
    assert load("cifar10", slice_of_cifar).notes == ()


def test_other_images_than_the_published_are_refused(slice_of_cifar, small_publication):
    pixels, labels = noise(40)
    write(slice_of_cifar / SHARD, [encode(p // 2) for p in pixels[25:]], {"label": labels[25:]})
    message = sentence("cifar10", slice_of_cifar)
    assert "have the channel means 0." in message
    assert "those of cifar10 are 0.5000, 0.5000, 0.5000" in message


@pytest.mark.parametrize("labels", [[0] * 15, [i % 10 for i in range(5, 21)]])
def test_other_numbers_of_images_than_the_published_are_refused(slice_of_cifar, small_publication, labels):
    write(slice_of_cifar / SHARD, [GOOD] * len(labels), {"label": labels})
    message = sentence("cifar10", slice_of_cifar)
    assert "training images; cifar10 has 4 in each of its 10 classes" in message


@pytest.mark.skipif(not (REAL / "cifar10").is_dir(), reason=f"the complete CIFAR-10 is not in {REAL}")
def test_the_real_cifar10_is_complete_and_has_the_published_statistics():
    data = load("cifar10", REAL)
    check_form(data)
    assert [len(s) for s in (data.train, data.holdout, data.test)] == [45_000, 5_000, 10_000]
    assert torch.bincount(data.holdout.targets).tolist() == [500] * 10
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=5e-5)
    assert data.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=5e-5)
    assert data.notes == ()
