"""Datasets: right pixels and labels, fixed splits, a cache that never lies, and sentences for damaged input."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import urllib.error
from collections import Counter
from pathlib import Path

import greenprune.bench.data.sources.cifar
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torchvision
from greenprune.bench.data.data import Dataset, content_hash, limited
from greenprune.bench.data.load import is_there, load
from greenprune.bench.data.names import DATASETS
from greenprune.bench.data.place import data_root
from greenprune.bench.data.sources import shards
from greenprune.bench.data.splits import Split
from greenprune.bench.errors import UserError
from PIL import Image
from sklearn.datasets import load_digits

REAL = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """An empty cache folder; no test reads or fills the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.delenv("GREENPRUNE_DATA", raising=False)
    return folder / "greenprune"


def noise(count: int, classes: int = 10, seed: int = 0) -> tuple[np.ndarray, list[int]]:
    """(count, 32, 32, 3) uint8, no two alike, and labels that go round."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return pixels, [i % classes for i in range(count)]


def encode(pixels: np.ndarray, image_format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **({"lossless": True} if image_format == "WEBP" else {}))
    return buffer.getvalue()


def write(path: Path, images: list[bytes | None], columns: dict[str, list], image_column: str = "img") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    structs = [{"bytes": data, "path": None} for data in images]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({image_column: pa.array(structs, kind), **columns}), path)


@pytest.fixture
def slice_of_cifar(tmp_path) -> Path:
    """A data folder with cifar10/: 40 training images in two shards, 10 test images."""
    pixels, labels = noise(50)
    encoded = [encode(p) for p in pixels]
    for name, rows in {
        "train-00000-of-00002": slice(0, 25),
        "train-00001-of-00002": slice(25, 40),
        "test-00000-of-00001": slice(40, 50),
    }.items():
        write(tmp_path / "cifar10" / f"{name}.parquet", encoded[rows], {"label": labels[rows]})
    return tmp_path


def as_counter(*splits: Split) -> Counter[tuple[bytes, int]]:
    """Images with their labels, regardless of order."""
    return Counter(
        (image.numpy().tobytes(), int(label)) for s in splits for image, label in zip(s.images, s.targets, strict=True)
    )


def expected_counter(pixels: np.ndarray, labels: list[int]) -> Counter[tuple[bytes, int]]:
    return Counter((p.transpose(2, 0, 1).tobytes(), label) for p, label in zip(pixels, labels, strict=True))


def check_form(data: Dataset) -> None:
    for split in (data.train, data.holdout, data.test):
        assert split.images.dtype == torch.uint8
        assert split.targets.dtype == torch.int64
        assert split.images.shape == (len(split), 3, 32, 32)
        assert split.images.is_contiguous()


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


# Bad input: one sentence with the place, what is wrong, and what is allowed


def sentence(name: str, root: Path | None) -> str:
    with pytest.raises(UserError) as error:
        load(name, root)
    message = str(error.value)
    assert "\n" not in message
    return message


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


SHARD = "cifar10/train-00001-of-00002.parquet"
GOOD = encode(noise(1)[0][0])
LARGE = encode(np.zeros((31, 33, 3), dtype=np.uint8))


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


# The cache


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """Names of the files that were decoded so far."""
    names: list[str] = []
    read = shards.read

    def counting(paths, *arguments):
        names.extend(path.name for path in paths)
        return read(paths, *arguments)

    monkeypatch.setattr(shards, "read", counting)
    return names


def equal(a: Dataset, b: Dataset) -> bool:
    splits = [(getattr(a, s), getattr(b, s)) for s in ("train", "holdout", "test")]
    return all(torch.equal(x.images, y.images) and torch.equal(x.targets, y.targets) for x, y in splits)


def test_images_are_decoded_once_and_the_data_folder_is_left_alone(slice_of_cifar, decoded, cache):
    before = sorted(slice_of_cifar.rglob("*"))
    first, second = load("cifar10", slice_of_cifar), load("cifar10", slice_of_cifar)
    assert len(decoded) == 3
    assert equal(first, second)
    assert sorted(slice_of_cifar.rglob("*")) == before
    assert [path.suffix for path in cache.rglob("*") if path.is_file()] == [".npz"]  # nothing half-written


def test_a_changed_source_is_decoded_again_and_a_touched_one_is_not(slice_of_cifar, decoded):
    first = load("cifar10", slice_of_cifar)
    path = slice_of_cifar / "cifar10" / "test-00000-of-00001.parquet"
    os.utime(path, (0, 0))
    assert equal(load("cifar10", slice_of_cifar), first)
    assert len(decoded) == 3
    write(path, [GOOD], {"label": [3]})
    assert load("cifar10", slice_of_cifar).test.targets.tolist() == [3]
    assert len(decoded) == 6


def test_other_contents_of_equal_names_sizes_and_times_are_other_data(slice_of_cifar):
    path = slice_of_cifar / "cifar10" / "test-00000-of-00001.parquet"
    found = []
    for label in (3, 5):
        write(path, [GOOD], {"label": [label]})
        os.utime(path, (0, 0))
        data = load("cifar10", slice_of_cifar)
        found.append((path.stat().st_size, path.stat().st_mtime_ns, data.test.targets.tolist(), content_hash(data)))
    (size, time_ns, labels, contents), other = found
    assert other[:2] == (size, time_ns)
    assert (labels, other[2]) == ([3], [5])
    assert contents != other[3]


def test_what_a_file_is_for_is_part_of_the_key(slice_of_cifar, tmp_path):
    """The same files in the same order, one of them for training here and for the test there."""
    folder = slice_of_cifar / "cifar10"
    load("cifar10", slice_of_cifar)
    moved = tmp_path / "moved"
    moved.mkdir()
    first, second = sorted(folder.glob("train-*.parquet"))
    (test,) = folder.glob("test-*.parquet")
    shutil.copy(first, moved / "train-00000-of-00001.parquet")
    shutil.copy(second, moved / "test-00000-of-00002.parquet")
    shutil.copy(test, moved / "test-00001-of-00002.parquet")
    before, after = load("cifar10", slice_of_cifar), load("cifar10", moved)
    assert len(after.test) > len(before.test)


def test_what_data_is_does_not_depend_on_where_it_lies(slice_of_cifar, tmp_path):
    here = content_hash(load("cifar10", slice_of_cifar))
    shutil.copytree(slice_of_cifar / "cifar10", tmp_path / "copy")
    assert content_hash(load("cifar10", tmp_path / "copy")) == here
    assert content_hash(limited(load("cifar10", slice_of_cifar), 10)) != here
    assert is_there("cifar10", slice_of_cifar)
    assert not is_there("cifar100", tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped bit", "other content"])
def test_a_damaged_cache_is_made_again(slice_of_cifar, decoded, cache, damage):
    first = load("cifar10", slice_of_cifar)
    (path,) = (p for p in cache.rglob("*") if p.is_file())
    content = bytearray(path.read_bytes())
    if damage == "flipped bit":
        content[len(content) // 2] ^= 1
    path.write_bytes({"truncated": content[:-100], "empty": b"", "other content": b"x" * 999}.get(damage, content))
    assert equal(load("cifar10", slice_of_cifar), first)
    assert equal(load("cifar10", slice_of_cifar), first)
    assert len(decoded) == 6  # made again once, then whole


def test_a_cache_that_cannot_be_written_is_only_a_warning(slice_of_cifar, tmp_path, monkeypatch):
    obstacle = tmp_path / "a file"
    obstacle.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(obstacle))
    with pytest.warns(UserWarning, match="decoded images could not be kept"):
        data = load("cifar10", slice_of_cifar)
    assert len(data.test) == 10


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
