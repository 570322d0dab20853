"""Tables, published layouts and masks: the same pictures, however they are stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from greenprune.bench.data.data import Dataset, content_hash
from greenprune.bench.data.load import load
from greenprune.bench.data.options import DataOptions
from greenprune.bench.data.sources import tables
from greenprune.bench.errors import UserError
from PIL import Image

from tests.bench.data.made import class_folders, parquet, pixels, saved, table

LABELS = [0, 1] * 6


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def of(folder: Path, **options) -> Dataset:
    return load(DataOptions(folder=str(folder), **options))


def two_parts(folder: Path, **columns) -> Path:
    parquet(folder / "data" / "train-00000-of-00002.parquet", table(LABELS, **columns))
    parquet(folder / "data" / "train-00001-of-00002.parquet", table(LABELS, seed=50, **columns))
    parquet(folder / "data" / "test-00000-of-00001.parquet", table([0, 1], seed=90, **columns))
    return folder


def test_parquet_of_any_columns_is_read_with_its_class_names(tmp_path: Path) -> None:
    data = of(
        two_parts(tmp_path, image="picture", label="kind", names=["cat", "dog"]),
        image_column="picture",
        label_column="kind",
    )
    assert data.class_names == ("cat", "dog")
    assert data.images == {"train": 22, "holdout": 2, "test": 2}
    assert data.test.images[0].numpy().tobytes() == pixels(90).transpose(2, 0, 1).tobytes()
    assert data.test.targets.tolist() == [0, 1]


def test_large_parquet_is_read_row_by_row(tmp_path: Path, monkeypatch) -> None:
    folder = two_parts(tmp_path)
    small = of(folder)
    monkeypatch.setattr(tables, "HELD_BYTES", 0)
    large = of(folder, loading="workers", workers=0)
    assert content_hash(large) == content_hash(small)
    for row in (0, 13, 21):
        assert torch.equal(large.train.items[int(large.train.rows[row])][0], small.train.images[row])


def test_a_folder_of_save_to_disk_is_the_same_set(tmp_path: Path) -> None:
    rows = pa.concat_tables([table(LABELS), table(LABELS, seed=50)])
    folder = saved(tmp_path / "saved", {"train": rows, "test": table([0, 1], seed=90)})
    assert content_hash(of(folder)) == content_hash(of(two_parts(tmp_path / "parquet")))
    lazy = of(folder, loading="workers", workers=0)
    assert torch.equal(lazy.test.items[1][0], of(folder).test.images[1])


def sentence(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_wrong_with_a_table_is_said(tmp_path: Path) -> None:
    folder = two_parts(tmp_path)
    said = sentence(lambda: of(folder, image_column="imag"))
    assert 'image_column = "imag": there is no such column; allowed: image, label (did you mean "image"?)' in said
    test = folder / "data" / "test-00000-of-00001.parquet"
    parquet(test, table([0, -3], seed=90))
    assert "row 1: label = -3; allowed is 0 to 1" in sentence(lambda: of(folder))
    parquet(test, table([0, 0], seed=90))
    assert "the class 1 has 12 pictures, and none is left to test with" in sentence(lambda: of(folder))
    test.write_bytes(test.read_bytes()[:100])
    assert f"{test}: cannot be read as Parquet" in sentence(lambda: of(folder))
    (folder / "data" / "train-00001-of-00002.parquet").unlink()
    assert "train-00001-of-00002.parquet missing" in sentence(lambda: of(folder))


@pytest.mark.parametrize(("kind", "values"), [("string", ["cat", "dog"]), ("double", [0.0, 1.0])])
def test_labels_of_another_type_are_refused(tmp_path: Path, kind: str, values: list) -> None:
    made = table([0, 1]).set_column(1, "label", pa.array(values))
    parquet(tmp_path / "train-0.parquet", made)
    said = sentence(lambda: of(tmp_path))
    assert f"column label has labels of type {kind}; allowed are integers" in said


def test_a_test_part_without_labels_is_not_used(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", table(LABELS * 2))
    parquet(tmp_path / "validation.parquet", table([0, 1], seed=50))
    parquet(tmp_path / "test.parquet", table([-1, -1], seed=60))
    data = of(tmp_path)
    assert len(data.test) == 2
    assert any("has no labels" in note for note in data.notes)


def test_tiny_imagenet_and_imagenet_are_read_as_they_are_published(tmp_path: Path) -> None:
    tiny = tmp_path / "tiny-imagenet"
    for seed, name in enumerate(("n01", "n02")):
        class_folders(tiny / "train" / name, {"images": 4}, seed=10 * seed, suffix=".JPEG")
    class_folders(tiny / "val", {"images": 2}, seed=50, suffix=".JPEG")
    (tiny / "val" / "val_annotations.txt").write_text("0.JPEG\tn02\t0\t0\t1\t1\n1.JPEG\tn01\t0\t0\t1\t1\n")
    data = load("tiny-imagenet", tmp_path)
    assert (data.classes, data.shape, data.class_names) == (2, (3, 64, 64), ("n01", "n02"))
    assert data.test.targets.tolist() == [1, 0]
    large = tmp_path / "imagenet"
    class_folders(large / "train", {"n01": 3, "n02": 3}, suffix=".JPEG")
    class_folders(large / "val", {"n01": 1, "n02": 1}, seed=50, suffix=".JPEG")
    assert load("imagenet", tmp_path).shape == (3, 224, 224)
    (tiny / "val" / "images" / "1.JPEG").unlink()
    assert "the picture 1.JPEG is missing" in sentence(lambda: load("tiny-imagenet", tmp_path))


def masked(folder: Path, count: int = 12) -> Path:
    for i in range(count):
        for kind in ("images", "masks"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(i)).save(folder / "images" / f"{i}.jpg")
        mask = (np.arange(32)[None] >= 16).astype(np.uint8).repeat(32, 0) + (i % 2)
        Image.fromarray(mask).save(folder / "masks" / f"{i}.png")
    return folder


def test_masks_come_with_their_pictures(tmp_path: Path) -> None:
    data = of(masked(tmp_path))
    assert data.classes == 3
    assert data.train.targets.shape[1:] == (32, 32)
    assert data.train.targets.dtype == torch.int64
    assert all(set(np.unique(mask)) in ({0, 1}, {1, 2}) for mask in data.train.targets.numpy())
    (tmp_path / "masks" / "3.png").unlink()
    assert "there is no mask of its name" in sentence(lambda: of(tmp_path))
    Image.fromarray(np.full((8, 8), 1, dtype=np.uint8)).save(tmp_path / "masks" / "3.png")
    assert "has 8×8 pixels, and its image 32×32" in sentence(lambda: of(tmp_path))
    Image.fromarray(np.full((32, 32), 9, dtype=np.uint8)).save(tmp_path / "masks" / "3.png")
    assert "its mask has the value 9; allowed is 0 to 2" in sentence(lambda: of(tmp_path, classes=3))
