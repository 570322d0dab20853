"""Networks of finished runs, given back as plain modules."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from greenprune.bench.data.load import load
from greenprune.bench.errors import UserError
from greenprune.bench.records.load import read_record
from greenprune.methods import count_params
from safetensors.torch import load_file, save_file

import greenprune
from tests.conftest import Story


@pytest.mark.parametrize("key", ["dense-1-s0", "gated-0.5-s0", "magnitude-0.5-s0"])
def test_a_stored_network_has_the_test_accuracy_of_its_record(story: Story, at_work: Path, key: str) -> None:
    model = greenprune.load_model(story.folder / key, trust=True)
    data = load("digits")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    correct = 0
    with torch.no_grad():
        for image, label in zip(data.test.images, data.test.targets, strict=True):
            logits = model(((image / 255 - mean) / std)[None])
            correct += int(logits.argmax() == label)
    stated = read_record(story.folder / key / "record.json").test_score
    assert correct / len(data.test.targets) == pytest.approx(stated, abs=1e-6)


@pytest.mark.parametrize("key", ["gated-0.5-s0", "magnitude-0.5-s0"])
def test_a_pruned_network_is_plain_and_smaller(story: Story, at_work: Path, key: str) -> None:
    model, dense = (greenprune.load_model(str(story.folder / k), trust=True) for k in (key, "dense-1-s0"))
    assert not any(module.training for module in model.modules())
    assert [type(module) for module in model.modules()] == [type(module) for module in dense.modules()]
    assert model.state_dict().keys() == dense.state_dict().keys()  # no mask, no gate
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    record = read_record(story.folder / key / "record.json")
    assert record.cost is not None
    assert count_params(model) == record.cost.params < record.cost.params_dense == count_params(dense)
    assert record.masked_max_abs_diff is not None
    assert record.masked_max_abs_diff <= 1e-4


def test_a_missing_network_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        greenprune.load_model(tmp_path)
    path = tmp_path / "model.safetensors"
    assert str(caught.value) == f"{path}: there is no stored network; run the suite again with --remake to make one"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ("empty", "not a readable safetensors file ("),
        ("truncated", "not a readable safetensors file ("),
        ("no metadata", "its metadata lacks classes, input_shape, model; greenprune did not write it"),
        ("a tensor is missing", "the stored tensors do not fit this network: "),
    ],
)
def test_a_damaged_network_is_said_in_one_sentence(
    story: Story, at_work: Path, tmp_path: Path, damage: str, sentence: str
) -> None:
    path = shutil.copy(story.folder / "gated-0.5-s0" / "model.safetensors", tmp_path)
    content, tensors = Path(path).read_bytes(), load_file(path)
    if damage == "empty":
        Path(path).write_bytes(b"")
    elif damage == "truncated":
        Path(path).write_bytes(content[:-100])
    elif damage == "no metadata":
        save_file(tensors, path)
    else:
        del tensors["9.bias"]
        about = {"model": "tiny_networks:tiny", "classes": "10", "input_shape": "[3, 32, 32]"}
        save_file(tensors, path, metadata=about)
    with pytest.raises(UserError) as caught:
        greenprune.load_model(tmp_path, trust=True)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}: {sentence}")
