from __future__ import annotations

import argparse
import os
import tomllib
from datetime import date
from pathlib import Path

import pytest
from greenprune.bench.cli.prune import add_arguments
from greenprune.bench.errors import UserError
from greenprune.bench.prune.request import suite_for, toml_text
from greenprune.bench.suite.file import load_suite


def asked(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(["resnet20", "--data", "digits", "--out", "small", *words])


def test_weights_are_those_that_were_typed_also_where_the_folder_has_a_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "model.safetensors").touch()  # the pruned network, of a first start
    _, data = suite_for(asked("--weights", "model.safetensors"))
    assert data["weights"] == str(tmp_path / "model.safetensors")
    (tmp_path / "small" / "prune.toml").write_text(toml_text(data))
    assert load_suite("small/prune.toml").weights == "model.safetensors"  # from the working directory


def test_images_are_those_that_were_typed_and_names_of_weights_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("given", "other"):
        (tmp_path / name).mkdir()
    _, data = suite_for(asked("--data", "given", "--set", "dataset.folder=other", "--weights", "DEFAULT"))
    assert (data["dataset"]["folder"], data["weights"]) == (str(tmp_path / "other"), "DEFAULT")


def test_images_whose_folder_no_record_can_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"caf\xe9")
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=r"--data caf\\udce9: is no UTF-8, and no record can name it; allowed: a path"):
        suite_for(asked("--data", name))


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("name=other", "--set name=other: name is that of the folder of both runs; allowed: --out for another folder"),
        ('methods=[{name = "gated"}]', "methods is of the unpruned network, or what --method says; allowed: --method"),
        ("methods.dense.name=gated", r"methods\.dense\.name is of the unpruned network, or what --method says"),
    ],
)
def test_what_both_runs_are_found_by_cannot_be_changed(setting: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        suite_for(asked("--set", setting))


def test_options_of_the_method_can_be_changed() -> None:
    suite, _ = suite_for(asked("--set", "methods.gated.options.drift=5.0", "--set", "methods.gated.label=mine"))
    assert [entry.label for entry in suite.methods] == ["dense", "mine"]


def test_what_is_written_is_read_again() -> None:
    data = {
        "name": "runs",
        "dataset": {"folder": 'a "quoted" \\ é folder', "image_size": 64, "mean": [0.1, 1e-9]},
        "budgets": [0.5],
        "description": date(2024, 5, 1),
        "training": {"epochs": 3, "nesterov": True, "learning_rate": 0.02, "betas": [0.9, 0.99]},
        "methods": [{"name": "dense"}, {"name": "gated", "options": {"drift": 5.0}}],
    }
    assert tomllib.loads(toml_text(data)) == data
