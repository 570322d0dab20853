"""Pictures and files that would give wrong results in silence: refused, or warned of."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from greenprune.bench.data.load import load
from greenprune.bench.data.pictures import MODES
from greenprune.bench.data.sources.cifar import repeated
from greenprune.bench.data.sources.shards import read, shards
from greenprune.bench.errors import UserError
from PIL import Image

from tests.bench.data.cifar import encode, noise, write


def picture(mode: str, file_format: str) -> bytes:
    file = io.BytesIO()
    values = np.full(
        (32, 32), 1000 if mode.startswith("I") else 0.5, dtype={"F": "float32", "I": "int32"}.get(mode, "uint16")
    )
    Image.fromarray(values).save(file, file_format)
    return file.getvalue()


@pytest.mark.parametrize(("mode", "file_format"), [("I;16", "PNG"), ("I;16", "TIFF"), ("I", "TIFF"), ("F", "TIFF")])
def test_pictures_of_16_bits_and_of_floats_are_refused(tmp_path: Path, mode: str, file_format: str) -> None:
    path = tmp_path / "train-0.parquet"
    write(path, [encode(noise(1)[0][0]), picture(mode, file_format)], {"label": [0, 1]})
    with pytest.raises(
        UserError, match=r"row 1: the image has pixels of the kind I|row 1: the image has pixels of the kind F"
    ):
        read([path], ["label"], 10)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_pictures_of_8_bits_are_read(tmp_path: Path, mode: str) -> None:
    assert mode in MODES
    file = io.BytesIO()
    Image.new(mode, (32, 32)).save(file, "PNG")
    write(tmp_path / "train-0.parquet", [file.getvalue()], {"label": [0]})
    assert read([tmp_path / "train-0.parquet"], ["label"], 10)[0].shape == (1, 3, 32, 32)


def test_a_link_to_nothing_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "train-0.parquet").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"train-0.parquet: is a link to nowhere, which is no file"):
        shards(tmp_path, "train")
    (tmp_path / "test-0.parquet").mkdir()
    with pytest.raises(UserError, match=r"test-0.parquet: is no file"):
        shards(tmp_path, "test")


def test_files_that_are_there_twice_and_test_images_that_are_trained_on_are_told(tmp_path: Path) -> None:
    pixels, labels = noise(40)
    images: list[bytes | None] = [encode(p) for p in pixels]
    folder = tmp_path / "cifar10"
    write(folder / "train-00000.parquet", images[:30], {"label": labels[:30]})
    write(folder / "test-00000.parquet", images[30:], {"label": labels[30:]})
    assert not [note for note in load("cifar10", tmp_path).notes if "images are" in note]
    shutil.copy(folder / "train-00000.parquet", folder / "train-00001.parquet")
    write(folder / "test-00000.parquet", images[25:], {"label": labels[25:]})
    told = " ".join(load("cifar10", tmp_path).notes)
    assert "30 of 60 training images are copies of others" in told
    assert "5 of 15 test images are among the training images too" in told


def test_one_image_in_thousands_is_not_worth_a_word() -> None:
    import torch

    train = torch.randint(0, 256, (3000, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    test = torch.cat([train[:1], 255 - train[:1999]])
    assert repeated(train, test) == ()
