"""The ledger: everything is charged, overdrawing stops a run, and what cannot suffice is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.energy import Reading
from greenprune.bench.energy.reading import Kind, SourceReading
from greenprune.bench.errors import UserError
from greenprune.bench.records.identity import differences
from greenprune.bench.records.load import read_record
from greenprune.bench.suite.file import load_suite
from greenprune.bench.training.ledger import Ledger, OverdrawnError, refuse_small_allowances

from tests.conftest import SUITE


def reading(joules: float | None, kind: Kind = "modelled") -> Reading:
    source = SourceReading(name="cpu", kind=kind, energy_j=joules, valid=joules is not None)
    return Reading(name="stretch", duration_s=1.0, sources=(source,))


def suite(tmp_path: Path, allowance: str = "", method: str = "magnitude", epochs: int = 2) -> Path:
    text = SUITE.split("[[methods]]")[0].replace("epochs = 2", f"epochs = {epochs}") + allowance
    path = tmp_path / "suite.toml"
    path.write_text(
        f'{text}\n[[methods]]\nname = "{method}"\n[measurement]\ninference_seconds = 0.1\ninference_batch_sizes = [16]\n'
    )
    return path


def test_samples_macs_seconds_and_joules_of_every_phase_are_charged() -> None:
    ledger = Ledger(30)
    ledger.charge("train", samples=10, forward_macs=1000)
    ledger.charge("train", samples=10, forward_macs=1000)
    ledger.charge_energy("train", reading(3.0))
    ledger.charge("fine-tune", samples=10, forward_macs=400)
    ledger.charge_energy("fine-tune", reading(1.0))
    ledger.charge_energy("fine-tune", reading(0.5))
    train, tune = ledger.stored().entries
    assert (train.phase, train.samples, train.forward_macs, train.energy_j) == ("train", 20, 2000, {"modelled": 3.0})
    assert (tune.phase, tune.samples, tune.forward_macs, tune.energy_j) == ("fine-tune", 10, 400, {"modelled": 1.5})
    assert ledger.spent_j() == 4.5


def test_samples_beyond_the_allowance_stop_the_run() -> None:
    ledger = Ledger(30)
    ledger.charge("train", samples=30, forward_macs=1)
    with pytest.raises(OverdrawnError, match="'fine-tune' asks for 1 sample after 30 of 30"):
        ledger.charge("fine-tune", samples=1, forward_macs=1)


def test_macs_beyond_the_allowance_stop_the_run() -> None:
    ledger = Ledger(30, allowance_forward_macs=2500)
    ledger.charge("train", samples=10, forward_macs=2500)
    with pytest.raises(OverdrawnError, match="overdrawn the allowance of 2500 forward multiply-accumulates"):
        ledger.charge("train", samples=10, forward_macs=1)


def test_joules_beyond_the_allowance_stop_the_run() -> None:
    ledger = Ledger(30, allowance_j=4.0)
    ledger.charge_energy("train", reading(3.9))
    with pytest.raises(OverdrawnError, match=r"'fine-tune' has overdrawn the allowance of 4 J: 4\.1 J"):
        ledger.charge_energy("fine-tune", reading(0.2))


def test_an_allowance_in_joules_that_nobody_can_read_stops_the_run() -> None:
    with pytest.raises(OverdrawnError, match="the energy of phase 'train' is unknown"):
        Ledger(30, allowance_j=4.0).charge_energy("train", reading(None))


def test_measured_joules_count_before_modelled_ones() -> None:
    ledger = Ledger(30)
    both = Reading(name="x", duration_s=1.0, sources=(*reading(5.0).sources, *reading(7.0, "measured").sources))
    ledger.charge_energy("train", both)
    assert ledger.spent_j() == 7.0


@pytest.mark.parametrize(
    ("allowance", "method", "epochs", "sentence"),
    [
        (
            "[allowance]\nsamples = 100",
            "magnitude",
            2,
            "allowance.samples = 100: too small for training.epochs = 2, which",
        ),
        (
            "[allowance]\nmacs = 0.4",
            "magnitude",
            2,
            "allowance.macs = 0.4: too small for magnitude, which takes at least",
        ),
        ("[allowance]\nmacs = 0.9", "dense", 2, "allowance.macs = 0.9: too small for dense, which takes at least 1 of"),
    ],
)
def test_an_allowance_that_cannot_suffice_is_refused_before_anything_runs(
    at_work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], allowance: str, method: str, epochs: int,
    sentence: str,
) -> None:  # fmt: skip
    assert main(["run", str(suite(tmp_path, allowance, method, epochs)), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"greenprune: {sentence}")
    assert not list((tmp_path / "out").glob("*/*/record.json"))


def test_a_phase_without_a_step_is_refused(at_work: Path, tmp_path: Path) -> None:
    loaded = load_suite(str(suite(tmp_path, method="slimming", epochs=1)))
    with pytest.raises(UserError, match=r"slimming: its phase 'fine-tune' gets none of the 1 optimizer steps"):
        refuse_small_allowances(loaded, steps_per_epoch=1)
    refuse_small_allowances(loaded, steps_per_epoch=5)


@pytest.mark.parametrize(
    ("allowance", "reason"),
    [
        (
            "[allowance]\nmacs = 0.6",
            "has overdrawn the allowance of",
        ),  # magnitude takes 0.8: dense for 0.6 of the steps
        ("[allowance]\njoules = 1e-6", "has overdrawn the allowance of 1e-06 J"),
    ],
)
def test_a_run_that_overdraws_is_recorded_as_failed_with_the_reason(
    at_work: Path, tmp_path: Path, allowance: str, reason: str
) -> None:
    assert main(["run", str(suite(tmp_path, allowance)), "--out", str(tmp_path)]) == 1
    record = read_record(tmp_path / "tiny" / "magnitude-0.5-s0" / "record.json")
    assert record.status == "failed"
    assert record.failure is not None
    assert reason in record.failure.reason


def test_records_from_before_allowances_are_still_the_same_run() -> None:
    assert differences({"seed": 0}, {"seed": 0, "allowance": None}) == ()
    assert differences({"seed": 0}, {"seed": 0, "allowance": {"macs": 1.0}}) != ()
