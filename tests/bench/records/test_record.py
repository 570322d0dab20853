"""What a record refuses to say, when it is written and when it is read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from greenprune.bench.errors import UserError
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import NEEDED_WHEN_DONE, RECORD_FILE, Epoch, write_record
from greenprune.bench.records.stored import signed
from pydantic import ValidationError

from tests.plots.records import failed, inference, reading, record, source


def _refusal(folder: Path, **changes: Any) -> str:
    """The sentence with which a good record is refused after `changes`."""
    path = folder / RECORD_FILE
    path.write_text(signed(json.loads(record("gated").model_dump_json()) | changes))
    with pytest.raises(UserError) as error:
        read_record(path)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value).removeprefix(f"{path}: ")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    measured = inference(64, 0.5).model_copy(update={"energy_ratio": {"modelled": (0.5, 0.4, 0.6)}})
    for stored in (record("gated", inference=(measured,), history={"gates": [[0.5, 1.0]]}), failed()):
        assert read_record(write_record(stored, tmp_path)) == stored


def test_names_of_files_that_are_no_utf8_lose_no_record(tmp_path: Path) -> None:
    stored = record("gated", warnings=("files of caf\udce9 are left out",))
    assert read_record(write_record(stored, tmp_path)).warnings == (r"files of caf\udce9 are left out",)


def test_a_record_from_before_energy_intervals_is_read(tmp_path: Path) -> None:
    stored = json.loads(record().model_dump_json())
    for measured in stored["inference"]:
        del measured["energy_ratio"]
    (tmp_path / RECORD_FILE).write_text(signed(stored))
    assert [measured.energy_ratio for measured in read_record(tmp_path / RECORD_FILE).inference] == [{}, {}]


def test_what_was_edited_by_hand_is_told_not_believed(tmp_path: Path) -> None:
    path = write_record(record("gated"), tmp_path)
    text = path.read_text()
    assert text.count('"budget": 0.5') == 2  # of the run and of its cost
    for altered, said in (
        (text.replace('"budget": 0.5', '"budget": 0.4999'), "was altered after it was written"),
        (json.dumps({k: v for k, v in json.loads(text).items() if k != "checksum"}), "has no checksum"),
    ):
        path.write_text(altered)
        with pytest.raises(UserError, match=said) as error:
            read_record(path)
        assert str(error.value).startswith(f"{path}: ")
    path.write_text(json.dumps(json.loads(text), indent=4))  # other spaces, the same record
    assert read_record(path) == record("gated")


@pytest.mark.parametrize("name", NEEDED_WHEN_DONE)
def test_done_means_complete(tmp_path: Path, name: str) -> None:
    assert _refusal(tmp_path, **{name: None}) == f'status is "done", but {name} is missing; not a record of schema 1'
    with pytest.raises(ValidationError, match=f"{name} is missing"):
        record(**{name: None})


def test_nothing_is_divided_by_zero(tmp_path: Path) -> None:
    good = json.loads(record("gated").model_dump_json())
    for name in ("macs_dense", "params_dense"):
        words = f"cost.{name}: input should be greater than or equal to 1; not a record of schema 1"
        assert _refusal(tmp_path, cost=good["cost"] | {name: 0}) == words
    for name in ("images", "dense_images", "blocks", "batch_size"):
        words = f"inference.0.{name}: input should be greater than or equal to 1; not a record of schema 1"
        assert _refusal(tmp_path, inference=[good["inference"][0] | {name: 0}]) == words


def test_an_unknown_kind_of_energy_ratio_is_refused(tmp_path: Path) -> None:
    good = json.loads(inference(64, 0.5).model_dump_json())
    words = _refusal(tmp_path, inference=[good | {"energy_ratio": {"guessed": [1, 1, 1]}}])
    assert "input should be 'measured', 'sampled' or 'modelled'" in words


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_figures_that_are_not_finite_are_neither_written_nor_read(tmp_path: Path, number: float) -> None:
    epoch = Epoch(
        epoch=1, phase="train", loss=number, train_score=0.1, holdout_score=None, kept_macs=1.0,
        learning_rate=0.1, duration_s=1.0,
    )  # fmt: skip
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("test_score", {"test_score": number}),
        ("epochs.0.loss", {"epochs": (epoch,)}),
        ("history.gates.0.1", {"history": {"gates": [[0.5, number]]}}),
        ("energy.training.sources.0.energy_j", {"energy": {"training": reading(source(number))}}),
    ]
    for where, changes in wrong:
        with pytest.raises(ValueError, match=f"{RECORD_FILE}: not written, {where} is {number}"):
            write_record(record(**changes), tmp_path)
        assert list(tmp_path.iterdir()) == []
    assert _refusal(tmp_path, test_score=number) == f"test_score is {number}; run it again"
