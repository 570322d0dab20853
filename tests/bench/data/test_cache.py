"""The cache of decoded images: never another's, and never damaged."""

from __future__ import annotations

import os
import shutil

import pytest
import torch
from greenprune.bench.data.data import Dataset, content_hash, limited
from greenprune.bench.data.load import is_there, load
from greenprune.bench.data.sources import shards

from tests.bench.data.cifar import GOOD, write


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
