"""A report of many records is not as large in memory as they are: what is large in one is read where it is shown."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import pytest
from greenprune.bench.records.record import RECORD_FILE, Record, write_record
from greenprune.plots.figures.all import FIGURES
from greenprune.plots.frame.load import load
from greenprune.plots.report.report import write_report

from tests.plots.records import agreeing, gate_history, grid, record, store, with_epochs

MIB = 2**20


def large(seed: int) -> Record:
    """A run whose record is dozens of times as large as one that tells nothing of its gates."""
    run = with_epochs(record("gated", seed=seed, history=gate_history(seed, rows=60)))
    epochs = [run.epochs[-1].model_copy(update={"epoch": number}) for number in range(1, 61)]
    return run.model_copy(update={"epochs": tuple(epochs), "settings": run.settings | {"epochs": 60}})


def measured(folder: Path, out: Path) -> tuple[int, int]:
    """Bytes that the loaded results take, and the most that were in use while their report was written."""
    gc.collect()
    tracemalloc.start()
    try:
        results = load(folder)
        assert not [problem for problem in results.problems if problem.kind == "unreadable"]
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
        write_report(results, out)
        return held, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_record_takes_less_than_its_file_however_much_it_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenprune.plots.report.report.FIGURES", ())
    few, many = 2, 6
    for name, count in (("warm", 1), ("few", few), ("many", many)):
        store(tmp_path / name, record(), *(large(seed) for seed in range(count)))
    write_report(tmp_path / "warm", tmp_path / "out")  # what is imported and read once counts for nobody
    held, most = zip(*(measured(tmp_path / name, tmp_path / "out") for name in ("few", "many")), strict=True)
    size = (tmp_path / "few" / "cifar10-cpu" / "gated-0.5-0" / RECORD_FILE).stat().st_size
    assert size > MIB / 5
    assert (held[1] - held[0]) / (many - few) < size / 4
    assert (most[1] - most[0]) / (many - few) < size


def test_what_was_left_out_is_in_the_figures_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenprune.plots.report.report.FIGURES", [s for s in FIGURES if s.name == "gate_consensus"])
    run = agreeing(large(0))
    folder = tmp_path / "results" / run.suite / run.key
    write_record(run, folder)
    store(tmp_path / "results", *grid(("dense",)))
    results = load(tmp_path / "results")
    (held,) = (r for r in results.records if r.method == "gated")
    assert not held.epochs
    assert held.history["channels"] is None
    assert results.whole(held) == run
    written = {path.name for path in write_report(results, tmp_path / "out")}
    assert "gate_consensus.svg" in written
