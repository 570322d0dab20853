"""Tables, published layouts and masks: the same pictures, however they are stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from greenprune.bench.data.data import Dataset, content_hash
from greenprune.bench.data.load import is_there, load
from greenprune.bench.data.names import CLASSES
from greenprune.bench.data.options import DataOptions
from greenprune.bench.data.sources import tables
from greenprune.bench.errors import UserError
from PIL import Image

from tests.bench.data.made import class_folders, masked, parquet, pixels, saved, table

LABELS = [0, 1] * 6


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


def test_parquet_of_no_part_is_not_trained_on(tmp_path: Path) -> None:
    expected = content_hash(of(two_parts(tmp_path)))
    parquet(tmp_path / ".cache" / "old.parquet", table(LABELS, seed=200))
    parquet(tmp_path / "data" / "extra-00000-of-00001.parquet", table(LABELS, seed=300))
    data = of(tmp_path)
    assert content_hash(data) == expected
    (note,) = data.notes
    assert note.endswith("that are of no part are left out: data/extra-00000-of-00001.parquet")


def test_parquet_of_a_mistyped_part_is_refused(tmp_path: Path) -> None:
    (two_parts(tmp_path) / "data" / TEST).rename(tmp_path / "data" / "tset-00000-of-00001.parquet")
    assert sentence(lambda: of(tmp_path)) == (
        f"{tmp_path / 'data' / 'tset-00000-of-00001.parquet'}: is a file of no part; allowed: train, val or test in its name "
        '(did you mean "test"?)'
    )


def test_parquet_without_names_of_parts_is_trained_on(tmp_path: Path) -> None:
    parquet(tmp_path / "data" / "0000.parquet", table(LABELS * 2))
    parquet(tmp_path / "data" / TEST, table([0, 1], seed=90))
    assert of(tmp_path).images == {"train": 22, "holdout": 2, "test": 2}


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


@pytest.fixture
def _of_two_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if ImageNet and Tiny ImageNet had two classes."""
    for name in ("tiny-imagenet", "imagenet"):
        monkeypatch.setitem(CLASSES, name, 2)


def tiny_imagenet(folder: Path) -> Path:
    for seed, name in enumerate(("n01", "n02")):
        class_folders(folder / "train" / name, {"images": 4}, seed=10 * seed, suffix=".JPEG")
    class_folders(folder / "val", {"images": 2}, seed=50, suffix=".JPEG")
    (folder / "val" / "val_annotations.txt").write_text("0.JPEG\tn02\t0\t0\t1\t1\n1.JPEG\tn01\t0\t0\t1\t1\n")
    return folder


@pytest.mark.usefixtures("_of_two_classes")
def test_tiny_imagenet_and_imagenet_are_read_as_they_are_published(tmp_path: Path) -> None:
    tiny = tiny_imagenet(tmp_path / "tiny-imagenet")
    data = load("tiny-imagenet", tmp_path)
    assert (data.classes, data.shape, data.class_names) == (2, (3, 64, 64), ("n01", "n02"))
    assert data.test.targets.tolist() == [1, 0]
    large = tmp_path / "imagenet"
    class_folders(large / "train", {"n01": 3, "n02": 3}, suffix=".JPEG")
    class_folders(large / "val", {"n01": 1, "n02": 1}, seed=50, suffix=".JPEG")
    assert load("imagenet", tmp_path).shape == (3, 224, 224)
    (tiny / "val" / "images" / "1.JPEG").unlink()
    assert "the picture 1.JPEG is missing" in sentence(lambda: load("tiny-imagenet", tmp_path))


@pytest.mark.usefixtures("_of_two_classes")
def test_the_data_folder_may_be_such_a_set_itself(tmp_path: Path) -> None:
    assert not is_there("tiny-imagenet", tmp_path)
    tiny_imagenet(tmp_path)
    assert is_there("tiny-imagenet", tmp_path)
    assert load("tiny-imagenet", tmp_path).images == {"train": 6, "holdout": 2, "test": 2}


@pytest.mark.parametrize("name", ["imagenet", "tiny-imagenet"])
def test_other_images_are_not_taken_for_a_set_that_is_known(name: str, tmp_path: Path) -> None:
    parquet(tmp_path / "cifar10" / "train-0.parquet", table(LABELS))
    assert not is_there(name, tmp_path)
    missing = f"{tmp_path / name}: there is no such folder; allowed is a folder with images, or beside it train/ with "
    assert sentence(lambda: load(name, tmp_path)) == f"{missing}{CLASSES[name]:,} class folders"
    class_folders(tmp_path / "train", {"a": 3, "b": 3})
    assert not is_there(name, tmp_path)
    assert sentence(lambda: load(name, tmp_path)).startswith(missing)
    class_folders(tmp_path / name, {"a": 3, "b": 3})
    assert is_there(name, tmp_path)
    wrong = f"{tmp_path / name}: has 2 classes, and {name} has {CLASSES[name]:,}; "
    assert sentence(lambda: load(name, tmp_path)).startswith(wrong)


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


def test_a_picture_that_cannot_be_read_is_no_fault_of_its_mask(tmp_path: Path) -> None:
    (masked(tmp_path) / "images" / "3.jpg").write_bytes(b"")
    assert "1 of 12 pictures cannot be read: images/3.jpg (cannot be decoded" in sentence(lambda: of(tmp_path))
    data = of(tmp_path, skip_unreadable=True)
    assert sum(data.images.values()) == 11
    assert not any((part.targets == 255).any() for part in (data.train, data.holdout, data.test))


def test_a_part_without_pictures_is_refused_of_masks_too(tmp_path: Path) -> None:
    said = sentence(lambda: of(masked(tmp_path, 2)))
    assert "has 2 pictures, and none is left to hold out; allowed are at least 3 different pictures to train on" in said


def test_a_part_of_masks_with_a_mistyped_name_is_refused(tmp_path: Path) -> None:
    for seed, part in enumerate(("train", "val", "tset")):
        masked(tmp_path / part, 4, seed=10 * seed)
    assert f"{tmp_path / 'tset'}: is the folder of no part" in sentence(lambda: of(tmp_path))
    (tmp_path / "train").rename(tmp_path / "trian")
    assert 'and no folder to train on; allowed: train/ (did you mean "trian"?)' in sentence(lambda: of(tmp_path))


TEST = "test-00000-of-00001.parquet"


def other(column: str, values: pa.Array) -> pa.Table:
    """Of two rows, with another column."""
    made = table([0, 1], seed=90)
    return made.set_column(made.schema.names.index(column), column, values)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (other("label", pa.array(["cat", "dog"])), "column label has labels of type string; allowed are integers"),
        (other("image", pa.array(["a.png", "b.png"])), "column image has type string; allowed is an encoded picture"),
        (other("image", pa.array([{"bytes": "a"}, {"bytes": "b"}])), "allowed is an encoded picture"),
        (
            other("label", pa.array([0, 2**63], pa.uint64())),
            "row 1: label = 9223372036854775808; allowed is an integer",
        ),
        (other("label", pa.array([0, 2**40])), "row 1: label = 1099511627776; allowed is an integer from 0 to 99999"),
        (other("label", pa.array([0, 1])).drop_columns(["label"]), "has no column label; allowed is one in every file"),
    ],
    ids=["text", "paths", "text in bytes", "unsigned", "large", "missing"],
)
def test_every_file_of_every_part_is_looked_at(tmp_path: Path, made: pa.Table, said: str) -> None:
    folder = two_parts(tmp_path / "parquet")
    parquet(folder / "data" / TEST, made)
    told = sentence(lambda: of(folder))
    assert TEST in told
    assert said in told
    folder = saved(tmp_path / "saved", {"train": table(LABELS), "test": made})
    assert said in sentence(lambda: of(folder))
    parquet(two_parts(tmp_path / "second") / "data" / "train-00001-of-00002.parquet", made)
    assert said in sentence(lambda: of(tmp_path / "second"))


def test_a_saved_part_without_files_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, {"train": table(LABELS), "test": table([0, 1], seed=90)})
    for part in ("train", "test"):
        before = (folder / part / "state.json").read_text()
        (folder / part / "state.json").write_text(json.dumps({"_data_files": []}))
        assert f"{folder / part / 'state.json'}: names no files" in sentence(lambda: of(folder))
        (folder / part / "state.json").write_text(before)


def test_labels_in_another_encoding_are_refused(tmp_path: Path) -> None:
    class_folders(tmp_path / "val", {"images": 2})
    for file in ("val/val_annotations.txt", "LOC_val_solution.csv"):
        (tmp_path / file).write_bytes(b"0.JPEG\tn\xe9\n")
        assert sentence(lambda: of(tmp_path)).startswith(f"{tmp_path / file}: is no text in UTF-8 (byte 8")
        (tmp_path / file).unlink()
