"""A suite of a user's own images: planned, run from memory and from workers to the same end, and verified."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import Record
from greenprune.bench.records.store import about_stored

from tests.bench.data.made import class_folders, masked

SUITE = """\
name = "own"
dataset = { folder = "photographs", image_size = 16, name = "own" }
model = "tiny_networks:tiny"
budgets = [0.5]

[training]
epochs = 2
batch_size = 16
augment = ["crop-flip", "trivial-augment"]

[[methods]]
name = "dense"

[measurement]
inference_seconds = 0.1
inference_batch_sizes = [1]
"""


@pytest.fixture
def place(at_work: Path, tmp_path: Path) -> Path:
    """A folder with a suite and photographs; the working directory is another one."""
    class_folders(tmp_path / "photographs", {"a": 30, "b": 30}, size=20)
    (tmp_path / "own.toml").write_text(SUITE, encoding="utf-8")
    return tmp_path


def run(place: Path, out: str, *more: str) -> Record:
    arguments = ["run", str(place / "own.toml"), "--out", str(place / out), "--skip-measure", *more]
    assert main(arguments) == 0
    return read_record(place / out / "own" / "dense-1-s0" / "record.json")


def test_memory_and_workers_come_to_the_same_and_it_is_verified(place: Path, capsys) -> None:
    held = run(place, "held")
    lazy = run(place, "lazy", "--set", "dataset.loading=workers", "--set", "dataset.workers=1")
    assert held.identity == lazy.identity
    assert [e.loss for e in held.epochs] == [e.loss for e in lazy.epochs]
    assert held.test_scores == lazy.test_scores
    assert held.loading is not None  # each image is augmented on its own, by a worker
    assert lazy.loading is not None
    assert lazy.loading.workers == 1
    assert held.settings["data"]["folder"] == "photographs"
    assert str(place) not in json.dumps(held.settings)
    capsys.readouterr()
    arguments = ["verify", str(place / "held" / "own"), "--data", str(place), "--trust"]
    assert main(arguments) == 0
    assert "not there" not in capsys.readouterr().out


MASKS = """\
name = "own"
dataset = { folder = "streets", image_size = 16 }
model = "pixels_for_masks:network"
task = { name = "segmentation", options = { ignore_index = -1 } }
budgets = [0.5]

[training]
epochs = 1
batch_size = 4

[[methods]]
name = "dense"

[measurement]
inference_seconds = 0.1
inference_batch_sizes = [1]
"""

PIXELS = """
from torch import nn


def network(outputs):
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, outputs, 3, padding=1))
"""


def test_a_training_on_masks_adds_at_borders_what_its_task_ignores(place: Path, monkeypatch) -> None:
    monkeypatch.chdir(place)
    (place / "pixels_for_masks.py").write_text(PIXELS)
    (place / "own.toml").write_text(MASKS)
    masked(place / "streets")
    record = run(place, "out")
    assert list(record.settings["training"]["augment"]) == ["crop-flip"]
    assert record.status == "done"


FLOATS = """
import torch
from torch.utils.data import TensorDataset


def floats():
    random = torch.Generator().manual_seed(0)
    return {
        part: TensorDataset(torch.randn(count, 3, 16, 16, generator=random), torch.arange(count) % 2)
        for part, count in (("train", 40), ("test", 10))
    }
"""


def test_of_images_that_come_as_floats_nobody_says_how_to_prepare_them(place: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(place)
    (place / "own_floats.py").write_text(FLOATS)
    monkeypatch.setenv("PYTHONPATH", str(place))
    text = SUITE.replace('folder = "photographs", image_size = 16', 'factory = "own_floats:floats", workers = 0')
    (place / "own.toml").write_text(text.replace('["crop-flip", "trivial-augment"]', '"none"'))
    run(place, "out")
    assert about_stored(place / "out" / "own" / "dense-1-s0").mean is None


def test_bad_images_are_said_in_one_sentence_with_exit_code_2(place: Path, capsys) -> None:
    picture = place / "photographs" / "a" / "7.png"
    picture.write_bytes(picture.read_bytes()[:90])
    plan = ["plan", str(place / "own.toml")]
    assert main(plan) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "photographs: 1 of 60 pictures cannot be read: a/7.png (cannot be decoded: " in said
    assert main([*plan, "--skip-unreadable"]) == 0
    capsys.readouterr()
    assert main([*plan, "--skip-unreadable", "--set", "dataset.image_size=4"]) == 2
    assert "dataset.image_size = 4: is too small; allowed: an integer at least 8" in capsys.readouterr().err
    assert main([*plan, "--set", "dataset=folder", "--data", str(place / "nowhere")]) == 2
    assert "nowhere: there is no such data folder" in capsys.readouterr().err
