"""What `greenprune prune` leaves of a network: that it is so, or that somebody is told."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from greenprune.bench.export.check import Written
from greenprune.bench.prune import deliver as delivering
from greenprune.bench.prune.both import Both
from greenprune.bench.prune.deliver import Delivered, deliver
from PIL import Image
from torch import nn

from tests.bench.export.test_export import Fixed
from tests.bench.runtimes.test_runtimes import small
from tests.plots.records import record

SETTINGS = {"dataset": "digits", "model": "net", "task": {"name": "classification"}, "images": {"test": 100}}


def delivered(network: nn.Module, out: Path, patch: pytest.MonkeyPatch, *, floats: bool = False) -> Delivered:
    mean, std = (None, None) if floats else ((0.5,) * 3, (0.2,) * 3)
    about = SimpleNamespace(input_shape=(3, 8, 8), mean=mean, std=std)
    patch.setattr(delivering, "load_model", lambda *arguments, **options: network.eval())
    patch.setattr(delivering, "about_stored", lambda folder: about)
    both = Both(out / "runs", record("dense", settings=SETTINGS), record("gated", settings=SETTINGS), ())
    return deliver(both, out, list("abcde"), "greenprune prune")


def read(source: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("written", source)
    assert spec is not None
    assert spec.loader is not None
    written = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(written)
    return written


def test_of_images_that_came_as_floats_no_preprocessing_is_made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = delivered(small(), tmp_path, monkeypatch, floats=True)
    assert any("come from the factory as floats" in note for note in done.notes)
    written = read(tmp_path / "network.py")
    assert "preprocessing" not in written.about()
    with pytest.raises(ValueError, match="trained on floats"):
        written.preprocess(Image.new("RGB", (8, 8)))
    said = json.loads((tmp_path / "preprocessor.json").read_text())
    assert (said["mean"], said["std"], said["normalisation"]) == (None, None, None)
    assert "pixels / 255" not in (tmp_path / "README.md").read_text()


def test_files_that_take_one_image_at_a_time_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Fixed()
    done = delivered(network, tmp_path, monkeypatch)
    assert done.problems == []
    assert any("one image at a time" in note for note in done.notes)
    assert "(1, 3, 8, 8)" in (tmp_path / "README.md").read_text()
    written = read(tmp_path / "network.py")
    image = torch.randn(1, 3, 8, 8)
    assert torch.allclose(written.load()(image), network(image), atol=1e-5)


def test_what_nothing_here_can_read_back_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "write", lambda n, e, to, *a, **o: Written((), None if to == "onnx" else 0.0, True))
    lacks = "onnxruntime is not installed"
    monkeypatch.setattr(delivering, "lacking", lambda *packages: lacks if packages == ("onnxruntime",) else None)
    done = delivered(small(), tmp_path, monkeypatch)
    assert done.notes == [f"model.onnx was not read back: {lacks}"]
    assert {"network.py", "model.safetensors", "model.onnx", "README.md"} <= done.files.keys()


def test_source_that_computes_something_else_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from greenprune.bench.export import source

    monkeypatch.setattr(source, "_read", lambda folder: lambda batch: torch.ones(len(batch), 5))
    done = delivered(small(), tmp_path, monkeypatch)
    (problem,) = done.problems
    assert "network.py: its results differ from those of eager PyTorch" in problem
    assert not (tmp_path / "network.py").exists()
    assert (tmp_path / "README.md").is_file()
