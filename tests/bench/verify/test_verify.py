"""`greenprune verify`: honest results pass; forged ones are found, though the forger computed every checksum anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from greenprune.bench.cli.main import main
from greenprune.bench.data.content import file_hash
from greenprune.bench.errors import UserError
from greenprune.bench.records.stored import signed
from greenprune.bench.verify.folder import verify
from greenprune.bench.verify.row import COLUMNS, Row
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.conftest import Story

ROOT = Path(__file__).parents[3]
KEYS = ("dense-1-s0", "gated-0.5-s0", "magnitude-0.5-s0")
RECORD, MODEL = "record.json", "model.safetensors"


@pytest.fixture
def results(story: Story, at_work: Path, tmp_path: Path) -> Path:
    """A copy of an honest suite, to forge."""
    folder = tmp_path / "tiny"
    shutil.copytree(story.folder, folder)
    return folder


def rows(*paths: Path) -> dict[str, Row]:
    return {row.run.rpartition("/")[2]: row for row in verify(paths, trust=True).rows}


def wrong(row: Row) -> set[str]:
    return {name for name, cell in row.cells.items() if cell.state == "wrong"}


def edit(run: Path, change: Callable[[dict[str, Any]], None], *, knowing: bool) -> None:
    """Edit a record. `knowing`: with the checksum that it then has, and those of the files beside it."""
    path = run / RECORD
    data = json.loads(path.read_text())
    change(data)
    if not knowing:
        path.write_text(json.dumps(data))
        return
    data["files"] = {name: file_hash(run / name) for name in data["files"] if (run / name).is_file()}
    path.write_text(signed(data))


def test_honest_results_are_what_they_say(results: Path) -> None:
    found = rows(results)
    assert {key: wrong(row) for key, row in found.items()} == {key: set() for key in (*KEYS, "inference.json")}
    for key in KEYS:
        assert {name: found[key].cells[name].state for name in COLUMNS} == dict.fromkeys(COLUMNS, "ok")


@pytest.mark.parametrize("knowing", [False, True])
def test_an_edited_accuracy_is_found(results: Path, knowing: bool) -> None:
    run = results / "gated-0.5-s0"

    def better(data: dict[str, Any]) -> None:
        images = data["settings"]["images"]["test"]
        data["test_score"] = (round(data["test_score"] * images) + 20) / images
        data["test_scores"][data["score"]["name"]] = data["test_score"]

    edit(run, better, knowing=knowing)
    assert wrong(rows(run)[run.name]) == ({"score"} if knowing else {"score", "checksum"})


@pytest.mark.parametrize("knowing", [False, True])
def test_swapped_weights_are_found(results: Path, knowing: bool) -> None:
    one, other = results / "gated-0.5-s0", results / "magnitude-0.5-s0"
    kept = (one / MODEL).read_bytes()
    shutil.copy(other / MODEL, one / MODEL)
    (other / MODEL).write_bytes(kept)
    if knowing:
        edit(one, lambda data: None, knowing=True)
        edit(other, lambda data: None, knowing=True)
    found = rows(one, other)
    for run in (one, other):
        assert "score" in wrong(found[run.name])
        assert ("checksum" in wrong(found[run.name])) == (not knowing)


@pytest.mark.parametrize("knowing", [False, True])
def test_tripled_macs_are_found(results: Path, knowing: bool) -> None:
    """Of the dense network too, and in the ledger, so that all of it adds up."""
    run = results / "magnitude-0.5-s0"

    def tripled(data: dict[str, Any]) -> None:
        for name in ("macs", "macs_dense"):
            data["cost"][name] *= 3
        for entry in data["ledger"]["entries"]:
            entry["forward_macs"] *= 3

    edit(run, tripled, knowing=knowing)
    assert wrong(rows(run)[run.name]) == ({"MACs"} if knowing else {"MACs", "checksum"})


@pytest.mark.parametrize("knowing", [False, True])
def test_other_images_are_found(results: Path, knowing: bool) -> None:
    run = results / "dense-1-s0"
    edit(run, lambda data: data["identity"].update(data="0" * 64), knowing=knowing)
    (run / "identity.json").unlink()  # which says what the run was begun with
    assert wrong(rows(run)[run.name]) == ({"identity"} if knowing else {"identity", "checksum"})


@pytest.mark.parametrize("knowing", [False, True])
def test_another_data_set_is_found(results: Path, knowing: bool) -> None:
    run = results / "gated-0.5-s0"
    edit(run, lambda data: data["settings"].update(dataset="cifar10"), knowing=knowing)
    found = rows(results)
    assert "identity" in wrong(found[run.name])
    assert ("checksum" in wrong(found[run.name])) == (not knowing)
    assert not wrong(found["dense-1-s0"]) | wrong(found["magnitude-0.5-s0"])


@pytest.mark.parametrize("knowing", [False, True])
def test_a_network_of_nan_is_found(results: Path, knowing: bool) -> None:
    run = results / "magnitude-0.5-s0"
    with safe_open(run / MODEL, framework="pt") as stored:
        about = stored.metadata()
    tensors = load_file(run / MODEL)
    tensors["9.bias"] = torch.full_like(tensors["9.bias"], float("nan"))
    save_file(tensors, run / MODEL, metadata=about)
    if knowing:
        edit(run, lambda data: None, knowing=True)
    found = wrong(rows(run)[run.name])
    assert {"weights", "score"} <= found
    assert ("checksum" in found) == (not knowing)


def test_one_network_for_two_runs_is_found(results: Path) -> None:
    one, other = results / "gated-0.5-s0", results / "magnitude-0.5-s0"
    shutil.copy(one / MODEL, other / MODEL)
    edit(
        other,
        lambda data: data.update(test_score=json.loads((one / RECORD).read_text())["test_score"]),
        knowing=True,
    )
    assert rows(results)[other.name].cells["weights"].text == "its network is that of gated-0.5-s0"


def test_a_word_that_contradicts_the_numbers_is_found(results: Path) -> None:
    run = results / "magnitude-0.5-s0"
    edit(run, lambda data: data["cost"].update(macs=data["cost"]["macs_dense"] - 1), knowing=True)
    found = rows(run)[run.name]
    assert found.cells["record"].text.startswith("says that it is valid, and kept 1.0000 of the dense MACs")
    assert "MACs" in wrong(found)


def test_what_was_begun_as_something_else_is_found(results: Path) -> None:
    run = results / "dense-1-s0"
    path = run / "identity.json"
    begun = json.loads(path.read_text())
    begun["identity"]["network"] = "1" * 64
    path.write_text(signed(begun))
    assert "identity.json says network: " in rows(run)[run.name].cells["identity"].text


def test_a_measurement_of_all_networks_is_checked(results: Path) -> None:
    path = results / "inference.json"
    joint = json.loads(path.read_text())
    joint["networks"][0]["inference"][0]["latency_ratio"] = 0.01
    path.write_text(json.dumps(joint))
    assert wrong(rows(results)[path.name]) == {"checksum"}
    path.write_text(signed(joint))
    assert wrong(rows(results)[path.name]) == {"record"}


def test_without_networks_the_rest_is_checked_and_that_is_said(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for key in KEYS:
        (results / key / MODEL).unlink()
    assert main(["verify", str(results), "--trust"]) == 0
    out = capsys.readouterr().out
    assert "Not checked in 3 of 4: weights: no network is stored." in out
    assert all(key in out for key in KEYS)
    edit(results / KEYS[0], lambda data: data.update(holdout_score=1.5), knowing=True)
    assert main(["verify", str(results), "--trust"]) == 1
    assert f"WRONG: tiny/{KEYS[0]}, record: holdout_score = 1.5: allowed is 0 to 1" in capsys.readouterr().out


def test_code_that_a_record_names_is_not_run_without_trust(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "trap.py").write_text("raise SystemExit('it ran')")
    monkeypatch.chdir(elsewhere)
    run = results / "magnitude-0.5-s0"
    edit(run, lambda data: data["settings"].update(model="trap:net"), knowing=True)
    found = verify([run]).rows[0]
    assert found.cells["weights"].state == "absent"
    assert "say --trust" in found.cells["weights"].text


def test_the_committed_results_pass(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    paths = sorted((ROOT / "results").glob("*"))
    (tmp_path / "link.json").symlink_to(tmp_path / "found.json")
    assert main(["verify", *map(str, paths), "--json", str(tmp_path / "link.json")]) == 0
    assert f"Note: {ROOT / 'results' / 'energy-meter'} holds no records" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["ok"]
    assert {row["record"]["state"] for row in found["rows"]} == {"ok"}


def test_nothing_to_verify_is_bad_input(tmp_path: Path) -> None:
    for path, said in ((tmp_path, "holds no records"), (tmp_path / "none", "there is no such results folder")):
        with pytest.raises(UserError, match=said):
            verify([path])
