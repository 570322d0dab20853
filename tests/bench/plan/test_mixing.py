"""One results folder, one experiment: what would be mixed is refused, whichever runs a start is about."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from greenprune.bench.cli.main import main
from greenprune.bench.data.data import Dataset
from greenprune.bench.data.load import load
from greenprune.bench.data.splits import Split
from greenprune.bench.errors import UserError
from greenprune.bench.plan.mixing import Identities, refuse_mixing
from greenprune.bench.plan.plan import Run, plan
from greenprune.bench.records.stored import signed
from greenprune.bench.suite.file import load_suite
from greenprune.bench.training import identity
from torch import nn

from tests.conftest import SUITE, Story, records


@pytest.fixture
def digits() -> Dataset:
    return load("digits")


@pytest.fixture
def folder(story: Story, at_work: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the finished suite, of which magnitude is still to be run."""
    place = tmp_path / "out" / "tiny"
    shutil.copytree(story.folder, place)
    shutil.rmtree(place / "magnitude-0.5-s0")
    identity.network_hashes.cache_clear()
    identity.method_hash_of.cache_clear()
    yield place
    identity.network_hashes.cache_clear()
    identity.method_hash_of.cache_clear()


def runs(data: Dataset) -> list[Run]:
    return plan(load_suite("tiny.toml"), {"digits": data}, "cpu")


def refusal(folder: Path, data: Dataset) -> str:
    with pytest.raises(UserError) as error:
        refuse_mixing(folder, runs(data), Identities({"digits": data}))
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{folder / 'dense-1-s0'}: is of another experiment (")
    assert "--out" in line
    return line


def test_the_same_experiment_goes_on(folder: Path, digits: Dataset) -> None:
    assert refuse_mixing(folder, runs(digits), Identities({"digits": digits})) == []


def test_other_data_of_equal_size_is_refused(folder: Path, digits: Dataset) -> None:
    labels = digits.train.targets.clone()
    labels[[0, 1]] = (labels[[0, 1]] + 1) % 10
    other = replace(digits, train=Split(digits.train.images, labels))
    assert ", other images or labels" in refusal(folder, other)
    images = digits.test.images.clone()
    images[0, 0, 0, 0] ^= 1
    assert ", other images or labels" in refusal(folder, replace(digits, test=Split(images, digits.test.targets)))


def test_an_edited_factory_is_refused(folder: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    import tiny_networks  # type: ignore[import-not-found] # in the working directory

    module: ModuleType = tiny_networks
    made = module.tiny

    def other(classes: int) -> nn.Module:
        model = made(classes)
        for name, child in list(model.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(model, name, nn.Sigmoid())
        return model

    monkeypatch.setattr(module, "tiny", other)
    assert ", another definition of the network" in refusal(folder, digits)


def test_other_initial_weights_are_refused(folder: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    import tiny_networks

    made = tiny_networks.tiny

    def other(classes: int) -> nn.Module:
        model = made(classes)
        nn.init.zeros_(model[9].bias)
        return model

    monkeypatch.setattr(tiny_networks, "tiny", other)
    assert ", other initial weights" in refusal(folder, digits)


def test_an_edited_method_is_refused_and_its_runs_alone(
    folder: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = identity.method_hash
    monkeypatch.setattr(identity, "method_hash", lambda m: "0" * 64 if m.name == "dense" else real(m))
    assert ", other files of the method" in refusal(folder, digits)
    monkeypatch.setattr(identity, "method_hash", lambda m: "0" * 64 if m.name == "magnitude" else real(m))
    identity.method_hash_of.cache_clear()
    assert refuse_mixing(folder, runs(digits), Identities({"digits": digits})) == []  # it has no record here


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("epochs = 2", "epochs = 3"), "training.epochs: 2 -> 3"),
        (("batch_size = 64", "batch_size = 32"), "training.batch_size: 64 -> 32"),
        (("seeds = [0]", "seeds = [1]\ntolerance = 0.1"), "tolerance: 0.02 -> 0.1"),
        (
            ('name = "gated"', 'name = "gated"\noptions.polarization_weight = 2.5'),
            "method.options.polarization_weight: ",
        ),
    ],
)
def test_a_changed_recipe_is_refused_though_only_another_method_is_to_run(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], said: str
) -> None:
    assert SUITE.count(change[0]) == 1
    suite = tmp_path / "changed.toml"
    suite.write_text(SUITE.replace(*change))
    before = records(folder)
    assert main(["run", str(suite), "--only", "magnitude", "--out", str(folder.parent)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert records(folder) == before


def test_another_data_set_or_network_in_the_folder_is_refused(folder: Path, digits: Dataset, tmp_path: Path) -> None:
    suite = tmp_path / "flat.toml"
    suite.write_text(SUITE.replace(":tiny", ":flat").replace("[0.5]", "[0.4]").replace("seeds = [0]", "seeds = [1]"))
    planned = plan(load_suite(str(suite)), {"digits": digits}, "cpu")
    with pytest.raises(UserError, match="digits on tiny_networks:tiny -> digits on tiny_networks:flat"):
        refuse_mixing(folder, planned, Identities({"digits": digits}))


def test_more_seeds_and_budgets_are_the_same_experiment(folder: Path, digits: Dataset, tmp_path: Path) -> None:
    suite = tmp_path / "more.toml"
    suite.write_text(SUITE.replace("[0.5]", "[0.3, 0.7]").replace("seeds = [0]", "seeds = [4, 5]"))
    planned = plan(load_suite(str(suite)), {"digits": digits}, "cpu")
    assert refuse_mixing(folder, planned, Identities({"digits": digits})) == []


def test_what_was_not_recorded_may_be_another_experiment(folder: Path, digits: Dataset) -> None:
    path = folder / "dense-1-s0" / "record.json"
    data = json.loads(path.read_text())
    data["identity"]["data"] = None
    path.write_text(signed(data))
    assert "data: not recorded -> " in refusal(folder, digits)


def test_another_version_of_torch_is_told(folder: Path, digits: Dataset) -> None:
    path = folder / "dense-1-s0" / "record.json"
    data = json.loads(path.read_text())
    data["identity"]["torch"] = "2.0.0"
    path.write_text(signed(data))
    (note,) = refuse_mixing(folder, runs(digits), Identities({"digits": digits}))
    assert note.startswith(f"1 of the records in {folder} are from elsewhere (torch: 2.0.0 -> {torch.__version__}")
