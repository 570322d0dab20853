"""Folders as disks have them: names in other encodings, folders and files that cannot be read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from greenprune.bench.data import content
from greenprune.bench.data.data import Dataset, content_hash
from greenprune.bench.data.load import load
from greenprune.bench.data.options import DataOptions
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import visible
from PIL import Image

from tests.bench.data.made import class_folders, masked

LATIN = os.fsdecode(b"caf\xe9")
"""A name as an old archive has it: no UTF-8."""


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "pets", {"cats": 10, "dogs": 20})


def of(folder: Path, **options) -> Dataset:
    return load(DataOptions(folder=str(folder), **options))


def test_notes_name_folders_that_are_no_utf8_so_that_they_can_be_stored(tmp_path: Path) -> None:
    for seed, part in enumerate(("train", "test")):
        class_folders(tmp_path / part, {"a": 4, "b": 4}, seed=100 * seed)
    (tmp_path / LATIN).mkdir()
    assert of(tmp_path).notes == (f"folders of {tmp_path.name} that are no parts are left out: {visible(LATIN)}",)


def test_hashes_of_files_whose_names_are_no_utf8_are_made_each_time(pets: Path, monkeypatch) -> None:
    (pets / "cats" / "0.png").rename(pets / "cats" / f"{LATIN}.png")
    expected = content_hash(of(pets))
    monkeypatch.setattr(content, "INDEXED_BYTES", 0)
    assert content_hash(of(pets)) == expected


def test_a_folder_that_cannot_be_read_is_not_left_out(pets: Path, monkeypatch) -> None:
    (pets / "cats" / "more").mkdir()
    scandir = os.scandir

    def refused(place):
        if Path(place).name == "more":
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UserError) as caught:
        of(pets)
    assert str(caught.value) == f"{pets / 'cats' / 'more'}: cannot be read (Permission denied)"


def test_links_that_lead_nowhere_are_left_out_where_asked(pets: Path) -> None:
    (pets / "cats" / "gone.png").symlink_to(pets / "nowhere.png")
    with pytest.raises(
        UserError, match=r"gone\.png: cannot be read \(No such file or directory\); allowed is a picture"
    ):
        of(pets)
    data = of(pets, skip_unreadable=True)
    assert sum(data.images.values()) == 30
    assert data.notes == ("links of pets that lead nowhere are left out: 1",)


@pytest.mark.parametrize(
    "fault", [OSError(errno.EMFILE, "Too many open files"), MemoryError()], ids=["files", "memory"]
)
def test_a_fault_of_the_machine_is_none_of_a_picture(pets: Path, monkeypatch, fault: Exception) -> None:
    def fails(*arguments, **options):
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", fails)
        with pytest.raises(UserError, match=r"cats/\d+\.png: cannot be decoded: .*; that is no fault of the picture"):
            of(pets, skip_unreadable=True)
    assert sum(of(pets).images.values()) == 30


def test_a_fault_of_the_machine_makes_no_mask_void(tmp_path: Path, monkeypatch) -> None:
    def fails(*arguments, **options):
        raise OSError(errno.EIO, "Input/output error", "0.jpg")

    folder = masked(tmp_path / "streets")
    monkeypatch.setattr(Image, "open", fails)
    with pytest.raises(UserError, match=r"0\.jpg: cannot be read \(Input/output error\)"):
        of(folder)
