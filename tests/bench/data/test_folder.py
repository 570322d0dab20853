"""Folders of pictures: what is read, how it is split, and a sentence for what is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from greenprune.bench.data import content
from greenprune.bench.data.data import Dataset, by_content, content_hash
from greenprune.bench.data.load import is_there, is_there_again, load, load_again
from greenprune.bench.data.options import DataOptions
from greenprune.bench.data.pictures import decode
from greenprune.bench.errors import UserError
from PIL import Image

from tests.bench.data.cifar import REAL
from tests.bench.data.made import class_folders, pixels

SIGNS = REAL / "sign-digits"


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "pets", {"cats": 10, "dogs": 20})


def of(folder: Path, **options) -> Dataset:
    return load(DataOptions(folder=str(folder), **options))


def test_a_folder_is_split_by_what_the_pictures_hold(pets: Path, tmp_path: Path) -> None:
    data = of(pets)
    assert data.name == "pets"
    assert data.class_names == ("cats", "dogs")
    assert (data.classes, data.shape, data.padding) == (2, (3, 32, 32), 4)
    assert data.images == {"train": 21, "holdout": 3, "test": 6}
    assert [torch.bincount(part.targets).tolist() for part in (data.train, data.holdout, data.test)] == [
        [7, 14],
        [1, 2],
        [2, 4],
    ]
    renamed = class_folders(tmp_path / "other", {})
    shutil.copytree(pets, renamed, dirs_exist_ok=True)
    for i, path in enumerate(sorted(renamed.glob("*/*.png"), reverse=True)):
        path.rename(path.with_name(f"renamed-{i}.png"))
    assert set(of(renamed).test.digests.tolist()) == set(data.test.digests.tolist())


def test_copies_of_a_picture_are_on_one_side(pets: Path) -> None:
    for path in list((pets / "cats").iterdir()):
        shutil.copy(path, path.with_name(f"copy-{path.name}"))
    data = of(pets)
    parts = [set(part.digests.tolist()) for part in (data.train, data.holdout, data.test)]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


def test_parts_that_are_there_are_used(tmp_path: Path) -> None:
    for seed, (part, count) in enumerate({"train": 6, "val": 2, "test": 3}.items()):
        class_folders(tmp_path / "set" / part, {"a": count, "b": count}, seed=100 * seed)
    assert of(tmp_path / "set").images == {"train": 12, "holdout": 4, "test": 6}
    shutil.rmtree(tmp_path / "set" / "test")
    assert of(tmp_path / "set").images == {"train": 10, "holdout": 2, "test": 4}


def test_pixels_are_those_of_the_file_and_normalisation_is_measured_or_given(pets: Path) -> None:
    data = of(pets)
    known = {decode(path, 32, 3).transpose(2, 0, 1).tobytes() for path in pets.glob("*/*.png")}
    assert all(image.numpy().tobytes() in known for image in data.train.images)
    assert decode(pets / "cats" / "0.png", 32, 3).tobytes() == pixels(0).tobytes()
    assert not data.given
    assert data.mean[0] == pytest.approx(0.5, abs=0.02)
    given = of(pets, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    assert (given.mean, given.given) == ((0.1, 0.2, 0.3), True)
    assert content_hash(given) != content_hash(data)


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".gif", ".ppm"])
def test_any_format_and_grey_pictures_are_read(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(np.repeat(np.repeat(GREY[:, :6], 2, 0), 2, 1))
    lossless = {"lossless": True} if suffix == ".webp" else {}
    path = saved(tmp_path / f"a{suffix}", image.convert("RGB") if suffix == ".webp" else image, **lossless)
    found = decode(path, 12, 1)
    assert found.shape == (12, 12, 1)
    assert np.abs(found[..., 0].astype(int) - np.asarray(image)).max() <= 1
    assert decode(path, 12, 3).shape == (12, 12, 3)


def test_what_is_transparent_is_white_and_exif_turns(tmp_path: Path) -> None:
    clear = saved(tmp_path / "clear.png", Image.new("RGBA", (8, 8), (0, 0, 0, 0)))
    assert (decode(clear, 8, 3) == 255).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    image = Image.fromarray(np.repeat(np.linspace(0, 255, 8, dtype=np.uint8)[None], 8, 0))
    turned = decode(saved(tmp_path / "turned.png", image, exif=exif), 8, 1)[..., 0]
    assert (turned == np.asarray(image.transpose(Image.Transpose.ROTATE_270))).all()


def test_the_middle_of_a_wide_picture_is_taken() -> None:
    wide = np.zeros((8, 24, 3), dtype=np.uint8)
    wide[:, 8:16] = 200
    assert (decode(Image.fromarray(wide), 8, 3) == 200).all()


def sentence(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unreadable_pictures_are_named_and_counted_and_left_out_where_asked(pets: Path) -> None:
    whole = (pets / "cats" / "3.png").read_bytes()
    (pets / "cats" / "3.png").write_bytes(whole[: len(whole) // 2])
    (pets / "dogs" / "4.png").write_bytes(b"no picture")
    said = sentence(lambda: of(pets))
    assert "2 of 30 pictures cannot be read: cats/3.png (cannot be decoded" in said
    assert "dogs/4.png" in said
    assert "--skip-unreadable" in said
    data = of(pets, skip_unreadable=True)
    assert sum(data.images.values()) == 28
    assert any("2 of 30 pictures cannot be read" in note and note.endswith("left out") for note in data.notes)


@pytest.mark.parametrize("loading", ["memory", "workers"])
def test_of_one_picture_alone_nothing_can_be_learnt(tmp_path: Path, loading: str) -> None:
    folder = class_folders(tmp_path / "set", {"a": 5, "b": 1})
    said = sentence(lambda: of(folder, loading=loading))
    assert "the class b has 1 picture, and none is left to test with" in said
    assert "at least 3 different pictures of each class" in said


def test_folders_that_are_no_set_are_refused(tmp_path: Path, pets: Path) -> None:
    assert "there is no such folder" in sentence(lambda: of(tmp_path / "nowhere"))
    (tmp_path / "bare").mkdir()
    assert "holds no images that are laid out" in sentence(lambda: of(tmp_path / "bare"))
    (pets / "birds").mkdir()
    assert sentence(lambda: of(pets)).startswith(f"{pets / 'birds'}: is empty; allowed is a folder with pictures")
    (pets / "birds" / "list.txt").write_text("")
    assert "has no pictures among its 1 file" in sentence(lambda: of(pets))
    shutil.rmtree(pets / "birds")
    shutil.rmtree(pets / "dogs")
    assert "has one class folder alone (cats)" in sentence(lambda: of(pets))


@pytest.mark.parametrize("count", [1, 3])
def test_a_number_of_classes_that_are_not_there_is_refused(pets: Path, count: int) -> None:
    assert of(pets, classes=2).classes == 2
    said = sentence(lambda: of(pets, classes=count))
    assert said == f"{pets}: classes = {count}: there are 2 class folders; allowed: 2, or no such key"


@pytest.mark.parametrize("name", ["imagenet", "tiny-imagenet", "pets"])
def test_a_folder_is_of_one_size_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    options = DataOptions(folder=str(class_folders(tmp_path / name, {"a": 4, "b": 4})))
    stored = DataOptions.model_validate_json(options.without_place().model_dump_json())
    assert stored.without_place() == stored
    assert load_again(name, stored, tmp_path).shape == load(options).shape == (3, 32, 32)
    assert stored.image_size == (None if name == "pets" else 32)
    named = DataOptions(folder="photographs", name="imagenet")
    assert (named.without_place().image_size, named.without_place().size, named.size) == (None, 224, 224)


def test_the_data_folder_itself_is_only_where_somebody_says(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GREENPRUNE_DATA", raising=False)
    assert not is_there("folder")
    assert sentence(lambda: load("folder")).startswith(
        'dataset = "folder": stands for the data folder itself, and nobody says'
    )
    assert is_there("folder", pets)
    assert load("folder", pets).classes == 2
    monkeypatch.setenv("GREENPRUNE_DATA", str(pets))
    assert load("folder").classes == 2


@pytest.mark.parametrize("folder", ["~nobody_/pets", "p" * 300])
def test_a_folder_that_cannot_be_looked_for_is_said_with_its_key(folder: str, tmp_path: Path) -> None:
    for call in (load, is_there):
        assert sentence(lambda call=call: call(DataOptions(folder=folder))).startswith('dataset.folder = "')
    assert not is_there_again("pets", DataOptions(folder=folder, name="pets"), tmp_path)


def test_a_class_that_is_missing_in_the_test_set_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"cat": 3, "dog": 3})
    class_folders(tmp_path / "test", {"cat": 2}, seed=50)
    assert f"{tmp_path / 'test'}: has no folder of the class dog" in sentence(lambda: of(tmp_path))
    class_folders(tmp_path / "test", {"dgo": 2}, seed=60)
    assert 'did you mean "dog"?' in sentence(lambda: of(tmp_path))


def test_hashes_of_many_bytes_are_kept_until_a_file_changes(pets: Path, monkeypatch) -> None:
    expected = content_hash(of(pets))
    monkeypatch.setattr(content, "INDEXED_BYTES", 0)
    read: list[Path] = []
    file_hash = content.file_hash
    monkeypatch.setattr(content, "file_hash", lambda path: read.append(path) or file_hash(path))
    assert content_hash(of(pets)) == expected
    assert len(read) == 30
    assert content_hash(of(pets)) == expected
    assert len(read) == 30
    shutil.copy(pets / "cats" / "1.png", pets / "cats" / "0.png")
    assert content_hash(of(pets)) != expected
    assert len(read) == 31


@pytest.mark.skipif(not SIGNS.is_dir(), reason=f"the photographs are not in {SIGNS}")
def test_photographs_of_two_sizes_become_one() -> None:
    few = of(SIGNS, image_size=16)
    assert sum(few.images.values()) == 2062
    assert few.classes == 10
    assert few.shape == (3, 16, 16)


def test_pictures_of_two_classes_are_on_one_side_and_told(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "set", {"a": 10})
    shutil.copytree(folder / "a", folder / "b")
    class_folders(folder, {"c": 10}, seed=50)
    for i in range(7):  # a larger class of which some are the same
        shutil.copy(folder / "a" / f"{i}.png", folder / "c" / f"a{i}.png")
    data = of(folder)
    parts = [set(part.digests.tolist()) for part in (data.train, data.holdout, data.test)]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    assert any(
        note.startswith("10 of 20 different pictures have more than one class, one of them a") for note in data.notes
    )


def test_of_pictures_without_copies_the_same_are_taken_as_ever() -> None:
    digests = np.array([f"{i * 7 % 20:02}" for i in range(20)])
    groups = [np.arange(10), np.arange(10, 20)]
    expected = [row for rows in groups for row in sorted(rows, key=lambda row: digests[row])[:2]]
    assert sorted(expected) == np.flatnonzero(by_content(digests, groups, 0.2)).tolist()


@pytest.mark.parametrize(
    ("copy", "of_part", "said"),
    [
        ("test", "train", "4 of 4 test pictures are among the training pictures too: "),
        ("val", "train", "4 of 4 held-out pictures are among the training pictures too: "),
        ("test", "val", "4 of 4 test pictures are among the held-out pictures too: "),
    ],
)
def test_pictures_of_two_parts_are_told(tmp_path: Path, copy: str, of_part: str, said: str) -> None:
    for seed, (part, count) in enumerate({"train": 6, "val": 2, "test": 2}.items()):
        class_folders(tmp_path / "set" / part, {"a": count, "b": count}, seed=100 * seed)
    assert of(tmp_path / "set").notes == ()
    for i, name in ((0, "a"), (1, "a"), (0, "b"), (1, "b")):
        place = tmp_path / "set"
        shutil.copy(place / of_part / name / f"{i}.png", place / copy / name / f"{i}.png")
    (note,) = of(tmp_path / "set").notes
    assert note.startswith(said)


def test_a_mistyped_part_is_no_class(tmp_path: Path) -> None:
    for seed, part in enumerate(("trian", "test")):
        class_folders(tmp_path / part, {"a": 4, "b": 4}, seed=100 * seed)
    said = f'{tmp_path}: has test/ and no folder to train on; allowed: train/ (did you mean "trian"?)'
    assert sentence(lambda: of(tmp_path)) == said
    (tmp_path / "trian").rename(tmp_path / "fotos")
    assert sentence(lambda: of(tmp_path)).endswith("has test/ and no folder to train on; allowed: train/")
    (tmp_path / "test").rename(tmp_path / "tset")
    (tmp_path / "fotos").rename(tmp_path / "train")
    said = f'{tmp_path / "tset"}: is the folder of no part; allowed: train/, val/ and test/ (did you mean "test"?)'
    assert sentence(lambda: of(tmp_path)) == said
    (tmp_path / "tset").rename(tmp_path / "fotos")
    assert of(tmp_path).notes == (f"folders of {tmp_path.name} that are no parts are left out: fotos",)


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_class_may_be_called_as_a_part_is(tmp_path: Path, name: str) -> None:
    data = of(class_folders(tmp_path / "vehicles", {"car": 5, "plane": 5, name: 5}))
    assert data.class_names == ("car", "plane", name)
    assert data.notes == (f"{name} of vehicles is a class: it holds pictures, and no folders of classes",)


def test_parts_without_class_folders_are_no_classes(tmp_path: Path) -> None:
    assert "train: has no class folders" in sentence(lambda: of(class_folders(tmp_path, {"train": 5, "test": 5})))


def test_links_in_a_circle_are_followed_once(pets: Path, tmp_path: Path) -> None:
    expected = of(pets).images
    (pets / "cats" / "again").symlink_to(pets / "cats")
    (pets / "cats" / "all").symlink_to(pets)
    assert of(pets).images == expected
    (tmp_path / "more").mkdir()
    shutil.copy(pets / "cats" / "0.png", tmp_path / "more" / "copy.png")
    for name in ("linked", "twice"):
        (pets / "cats" / name).symlink_to(tmp_path / "more")
    assert sum(of(pets).images.values()) == 31
