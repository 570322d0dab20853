"""Figures that no run gives are refused, whoever computed the checksum; honest records are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from greenprune.bench.errors import UserError
from greenprune.bench.records.check import impossible
from greenprune.bench.records.load import changed_files, read_record
from greenprune.bench.records.record import RECORD_FILE, Epoch, Record
from greenprune.bench.records.stored import signed
from greenprune.bench.records.validity import broken_rule, guessing

PAPER = Path(__file__).parents[3] / "results" / "paper-cpu"
HONEST = PAPER / "gated-0.5-s9" / RECORD_FILE


def edited(**changes: Any) -> dict[str, Any]:
    """An honest record with other values: `ledger__entries__0__samples=1`."""
    data = json.loads(HONEST.read_text())
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = data
        for name in parents:
            place = place[int(name) if name.isdecimal() else name]
        place[int(last) if last.isdecimal() else last] = value
    return data


def forged(folder: Path, **changes: Any) -> Path:
    """It, by somebody who knows how to compute a checksum."""
    path = folder / RECORD_FILE
    path.write_text(signed(edited(**changes)))
    return path


RECORDS = sorted(PAPER.parent.glob(f"*/*/{RECORD_FILE}"))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: f"{path.parents[1].name}/{path.parent.name}")
def test_honest_records_are_possible_and_say_why_one_is_invalid(path: Path) -> None:
    record = read_record(path)
    assert impossible(record) == []
    assert record.valid == (record.invalid_reason is None)
    assert changed_files(record, path.parent) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"test_score": 1.2}, "test_score = 1.2: allowed is 0 to 1"),
        ({"test_score": -0.1}, "test_score = -0.1: allowed is 0 to 1"),
        ({"test_score": 1e308}, "test_score = 1e+308: allowed is 0 to 1"),
        ({"test_score": 0.84995}, "is no number of 10000 images"),
        ({"holdout_score": 0.9}, "its last epoch says"),
        ({"epochs__3__train_score": 1.5}, "epochs.3.train_score = 1.5"),
        ({"epochs__3__loss": -1.0}, "epochs.3.loss = -1.0"),
        ({"epochs__3__epoch": 9}, "epochs.3.epoch = 9"),
        ({"epochs": []}, "epochs: are 0, and its settings say 8"),
        ({"settings__training__epochs": 9}, "and its settings say"),
        ({"cost__macs": 50_000_000}, "cost.macs = 50000000: more than the dense network's"),
        ({"cost__params": 300_000}, "cost.params = 300000: more than"),
        ({"cost__budget": 0.6}, "cost.budget = 0.6: the run's is 0.5"),
        ({"budget": 0.6}, "its settings say 0.5"),
        ({"seed": 8}, "seed = 8: its settings say 9"),
        ({"method": "slimming"}, "method = slimming: its settings say gated"),
        ({"cost__widths": {"conv1": 17}}, "cost.widths.conv1 = 17: the dense network has 16"),
        ({"ledger__entries__0__samples": 122_369}, "ledger: its phases took 359937 samples"),
        ({"ledger__allowance_samples": 1000}, "and the allowance is 1000"),
        ({"ledger__entries__0__forward_macs": 10**15}, "more than 3 times dense's"),
        ({"ledger__entries__0__duration_s": 10.0}, "s, and the training"),
        ({"ledger__entries__0__duration_s": 1e300}, "ledger: its phases took 1e+300 s"),
        ({"ledger__entries__0__energy_j__modelled": 10.0}, "modelled joules, and the training"),
        ({"ledger__entries__0__energy_j__modelled": -1.0}, "energy_j.modelled = -1.0"),
        ({"energy__training__sources__0__energy_j": -5.0}, "energy.training.sources.0.energy_j = -5.0"),
        ({"energy__evaluation__sources__0__low_j": 1e6}, "is not within its bounds"),
        ({"energy__evaluation__sources__0__valid": False}, "and valid = false"),
        ({"inference__0__latency_ratio": 0.5}, "inference.0.latency_ratio = 0.5: is not within its bounds"),
        ({"inference__0__latency__median_ms": 1e-6}, "inference.0.latency.median_ms = 1e-06: is below"),
        ({"inference__0__energy_ratio__modelled": [0.5, 0.6, 0.7]}, "is not within its bounds"),
        ({"inference__0__energy_j_per_1000_images__modelled": [1.0, 0.5, 9.0]}, "images do not give it"),
        ({"emissions__training_gco2e__modelled": 0.1}, "the training's joules give"),
        ({"finished_at": "2026-11-28T14:00:00+00:00"}, "is before started_at"),
        ({"finished_at": "2026-11-28T14:16:57+00:00"}, "and the whole run 60 s"),
        ({"masked_max_abs_diff": -1.0}, "masked_max_abs_diff = -1.0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_no_run_gives_is_refused_with_the_right_checksum_too(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    path = forged(tmp_path, **changes)
    with pytest.raises(UserError) as error:
        read_record(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cost__macs": 30_000_000}, "kept 0.7351 of the dense MACs, outside [0.48, 0.5]"),
        ({"cost__macs": 3_000_000}, "kept 0.0735 of the dense MACs"),
        ({"cost__macs": 18_000_000, "cost__nearest_below": 0.45}, None),  # its units are too coarse for the budget
        ({"masked_max_abs_diff": 0.5}, "masked and removed network differ by 5.00e-01"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_validity_is_found_out_from_the_numbers(tmp_path: Path, changes: dict[str, Any], said: str | None) -> None:
    record = read_record(forged(tmp_path, **changes))
    assert record.valid == (said is None)
    assert said is None or said in str(record.invalid_reason)


def test_a_small_network_that_takes_far_longer_than_dense_is_invalid(tmp_path: Path) -> None:
    """The slowest of the honest ones takes 1.12 times as long: far from the threshold."""
    slow = [(f"inference__{i}__latency_ratio{end}", value) for i in (0, 1) for end, value in SLOW.items()]
    record = read_record(forged(tmp_path, **dict(slow)))
    assert "takes at least 2.9 times the dense network's time" in str(record.invalid_reason)
    assert read_record(forged(tmp_path, **dict(slow[:3]))).valid  # at one batch size alone: a kernel's trouble


SLOW = {"": 3.0, "_low": 2.9, "_high": 3.1}


@pytest.mark.parametrize(
    ("losses", "diverged"),
    [
        ((2.5, 2.2, 1.9), False),
        ((2.3, 2.302, 2.30), False),  # it never learned anything, which is bad, but happens to honest networks
        ((400.0, 2.31), True),
        ((1.5, 1.2, 2.303), True),
        ((3.1, 2.9), True),
        ((400.0, 2.0, 1.5), False),  # it recovered
    ],
)
def test_a_training_that_diverged_and_ends_with_guessing_is_invalid(losses: tuple[float, ...], diverged: bool) -> None:
    epochs = tuple(
        Epoch(
            epoch=i + 1, phase="train", loss=loss, train_score=0.1, holdout_score=0.1, kept_macs=1.0,
            learning_rate=0.1, duration_s=1.0,
        )
        for i, loss in enumerate(losses)
    )  # fmt: skip
    assert (guessing(epochs, 10) is not None) == diverged
    assert guessing(epochs, None) is None


def test_a_dense_run_may_not_be_anything_but_dense(tmp_path: Path) -> None:
    data = json.loads((PAPER / "dense-1-s9" / RECORD_FILE).read_text())
    data["ledger"]["entries"][0]["forward_macs"] //= 2
    (said,) = impossible(Record.model_validate({k: v for k, v in data.items() if k != "checksum"}))
    assert said.endswith("are not those of 359936 samples")


def test_a_rule_is_not_asked_of_what_a_record_does_not_say() -> None:
    record = read_record(HONEST)
    assert broken_rule(record.model_copy(update={"inference": (), "epochs": (), "settings": {}})) is None
    assert impossible(record.model_copy(update={"settings": {}, "emissions": None, "energy": {}})) == []


def test_files_beside_a_record_are_those_that_were_stored(tmp_path: Path) -> None:
    record = read_record(HONEST)
    (tmp_path / "power.parquet").write_bytes(b"other")
    (tmp_path / "model.safetensors").write_bytes(b"from somewhere")
    assert [line.split()[0] for line in changed_files(record, tmp_path)] == ["power.parquet", "model.safetensors"]
    away = record.model_copy(update={"files": {"../x": "0"}})
    assert changed_files(away, tmp_path)[0] == "its record names ../x among the files beside it"
