from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest
from greenprune.bench.cli.prune import add_arguments
from greenprune.bench.errors import UserError
from greenprune.bench.prune.request import suite_for
from greenprune.bench.suite.file import load_suite
from greenprune.bench.suite.written import toml_text


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


def test_weights_that_no_suite_file_can_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / os.fsdecode(b"caf\xe9")
    here.mkdir()
    (here / "model.safetensors").touch()
    monkeypatch.chdir(here)
    with pytest.raises(
        UserError, match=r"^weights = .*: is no UTF-8, and no record can name it; allowed: a path in UTF-8"
    ):
        suite_for(asked("--weights", "model.safetensors"))


def test_the_suite_file_names_a_folder_of_any_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / 'a\x7f\x1b\n"\\\U0001f600'
    folder.mkdir()
    _, data = suite_for(asked("--data", folder.name))
    (tmp_path / "prune.toml").write_text(toml_text(data), encoding="utf-8")
    (entry,) = load_suite("prune.toml").dataset
    assert entry.folder == str(folder)


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
