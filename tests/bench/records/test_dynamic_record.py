"""What a finished run of `dynamic` and of `magnitude_unstructured` leaves behind, from the suite file to the record."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from greenprune.bench.cli.main import main
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import Record
from greenprune.methods.skipping.skip import SkippingNetwork

import greenprune
from tests.conftest import FIGURES

SUITE = """\
name = "two"
dataset = "digits"
model = "resnet20"
budgets = [0.6]

[training]
epochs = 1
batch_size = 64

[[methods]]
name = "dynamic"

[[methods]]
name = "magnitude_unstructured"

[measurement]
inference_seconds = 0.1
inference_batch_sizes = [16]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("two")
    (place / "two.toml").write_text(SUITE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr(FIGURES, ())
        assert main(["run", str(place / "two.toml"), "--out", str(place), "--device", "cpu"]) == 0
    return place / "two"


def record(folder: Path, method: str) -> Record:
    return read_record(folder / f"{method}-0.6-s0" / "record.json")


def test_dynamic_has_the_distribution_of_what_images_cost(folder: Path) -> None:
    found = record(folder, "dynamic")
    assert found.cost is not None
    sampled = found.cost.sample_macs
    assert sampled is not None
    assert sampled.images == sum(sampled.counts) == 359  # the test images of digits
    assert sampled.low <= sampled.mean <= sampled.high
    assert sampled.std >= 0
    assert found.cost.kept_macs == pytest.approx(sampled.mean, abs=1e-6)
    assert found.valid == (0.58 <= sampled.mean <= 0.6)
    assert found.cost.params > found.cost.params_dense  # its heads
    assert found.cost.widths == found.cost.widths_dense  # nothing was removed


def test_dynamic_is_given_back_with_its_gates(folder: Path) -> None:
    found = record(folder, "dynamic")
    assert found.cost is not None
    model = greenprune.load_model(folder / "dynamic-0.6-s0")
    assert isinstance(model, SkippingNetwork)
    assert sum(p.numel() for p in model.parameters()) == found.cost.params
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_unstructured_claims_connections_and_no_macs(folder: Path) -> None:
    found = record(folder, "magnitude_unstructured")
    assert found.cost is not None
    assert found.cost.connections is not None
    assert found.cost.connections_dense is not None
    assert 0.58 <= found.cost.connections / found.cost.connections_dense <= 0.6
    assert found.valid
    assert (found.cost.kept_macs, found.cost.kept_params) == (1.0, 1.0)


def test_every_phase_has_its_samples_seconds_and_joules(folder: Path) -> None:
    for method, phases in (("dynamic", ["train"]), ("magnitude_unstructured", ["train", "fine-tune"])):
        ledger = record(folder, method).ledger
        assert ledger is not None
        assert [entry.phase for entry in ledger.entries] == phases
        assert ledger.samples == ledger.allowance_samples
        assert all(entry.duration_s > 0 and entry.forward_macs > 0 and entry.energy_j for entry in ledger.entries)
