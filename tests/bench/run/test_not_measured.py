"""A network that does not run at a batch size of the inference: the trained run is kept, and its record says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.inference import pair
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import MODEL_FILE
from greenprune.plots.frame.load import load

NETWORK = """
import greenprune.bench.inference.pair
from torch import nn

class Picky(nn.Module):
    def forward(self, x):
        if len(x) == 7:
            raise MemoryError("no room for seven")
        return x

def net(classes):
    greenprune.bench.inference.pair.CPU_BLOCK_S = 0.01
    return nn.Sequential(
        Picky(), nn.Conv2d(3, 16, 3, stride=4, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes),
    )
"""
SUITE = """
name = "picky"
dataset = "digits"
model = "picky_networks:net"
budgets = [0.5]
methods = [{ name = "dense" }]

[training]
epochs = 1
batch_size = 64

[measurement]
inference_seconds = 0.05
inference_batch_sizes = """


@pytest.mark.parametrize(("sizes", "measured"), [([16, 7, 2], [16, 2]), ([7], [])])
def test_a_batch_size_that_does_not_run_costs_its_own_figures_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_figures: None, sizes: list[int], measured: list[int]
) -> None:
    (tmp_path / "picky_networks.py").write_text(NETWORK)
    (tmp_path / "picky.toml").write_text(SUITE + f"{sizes}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(pair, "CPU_BLOCK_S", pair.CPU_BLOCK_S)
    assert main(["run", "picky.toml", "--skip-measure"]) == 0
    folder = tmp_path / "results" / "picky" / "dense-1-s0"
    record = read_record(folder / "record.json")
    assert (record.status, record.valid) == ("done", True)
    assert record.test_score is not None
    assert (folder / MODEL_FILE).is_file()
    assert [i.batch_size for i in record.inference] == measured
    assert ("inference" in record.energy) == bool(measured)
    said = "inference at batch size 7 was not measured (MemoryError: no room for seven)"
    assert record.warnings.count(said) == 1
    assert said in {problem.what for problem in load(folder.parent).problems}
