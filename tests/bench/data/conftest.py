"""What all tests of data have: a cache of their own, and a small CIFAR-10."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.data.cifar import encode, noise, write


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """An empty cache folder; no test reads or fills the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.delenv("GREENPRUNE_DATA", raising=False)
    return folder / "greenprune"


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
