"""What a search for options cost stands beside the trainings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from greenprune.bench.records.record import Ledger, LedgerEntry
from greenprune.bench.records.tuning import Spent, Trial, Tuning, write_tuning
from greenprune.plots.frame.comparison import comparison
from greenprune.plots.frame.load import load
from greenprune.plots.report.summary import sentences
from greenprune.plots.tables.tables import markdown_text

from tests.plots.records import ACCURACY, grid, reading, record, source, store
from tests.plots.tables.rows import load_stored, row_of


def test_the_price_of_tuning_stands_beside_the_training(tmp_path: Path) -> None:
    results = load_stored(tmp_path, *grid(seeds=1))
    assert "Tuning" not in markdown_text(comparison(results))  # where nothing was searched, nothing is said
    macs = results.runs.set_index("method").loc["dense", "train_forward_macs"]
    ledger = Ledger(
        allowance_samples=10,
        entries=(LedgerEntry(phase="train", samples=10, forward_macs=int(macs // 2), duration_s=60.0),),
    )
    spent = Spent(ledger=ledger, energy=reading(source(2000.0)))
    trials = [
        Trial(number=n, options={}, status="done", holdout_score=0.5, spent=spent, duration_s=9.0) for n in (0, 1, 2)
    ]
    tuning = Tuning(
        suite="cifar10-cpu", method="gated", method_name="gated", budget=0.5, seed=0, settings=record().settings,
        holdout_images=10, space={}, machine={}, command="", trials=tuple(trials), score=ACCURACY,
    )  # fmt: skip
    write_tuning(tuning, tmp_path / "cifar10-cpu" / "tune-gated-0.5-s0")
    results = load(tmp_path)
    assert row_of(results, "gated")["tuning_macs_ratio"] == pytest.approx(1.5)
    assert row_of(results, "magnitude")["tuning_macs_ratio"] == 0.0
    text = markdown_text(comparison(results))
    assert "| Tuning MACs, × one dense training |" in text
    assert "| 1.50 (3 trials) |" in text
    said = " ".join(sentences(results, comparison(results)))
    assert "gated were searched at 50 % with seed 0, on held-out images alone: 3 trials took 30 training images" in said
    assert "3.00 minutes and 6.00 kJ (modelled)" in said


def test_the_price_of_tuning_is_shown_of_networks_that_were_trained_before_too(tmp_path: Path) -> None:
    settings = record().settings | {"weights": "w.safetensors"}
    store(tmp_path, *(run.model_copy(update={"settings": settings}) for run in grid()), record(suite="other"))
    tuning = Tuning(
        suite="cifar10-cpu", method="gated", method_name="gated", budget=0.5, seed=0, settings=settings, holdout_images=10,
        space={}, machine={}, command="", score=ACCURACY,
        trials=(Trial(number=0, options={}, status="done", holdout_score=0.5, duration_s=9.0),),
    )  # fmt: skip
    write_tuning(tuning, tmp_path / "cifar10-cpu" / "tune-gated-0.5-s0")
    for folders in (tmp_path, [tmp_path, tmp_path]):  # a search counts once
        table = comparison(load(folders))
        assert list(table[(table["method"] == "gated")]["tuning_trials"]) == [1]


@pytest.mark.parametrize(
    "other", [{"suite": "cifar100-gpu"}, {"settings": {"dataset": "cifar100", "model": "resnet56"}}]
)
def test_a_search_of_another_suite_or_network_costs_nothing_here(other: dict[str, Any], tmp_path: Path) -> None:
    """Also where all that has run is one comparison without problems."""
    fields = {"suite": "cifar10-cpu", "settings": record().settings} | other
    tuning = Tuning(
        method="gated", method_name="gated", budget=0.5, seed=0, holdout_images=10, space={}, machine={}, command="",
        score=ACCURACY, trials=(Trial(number=0, options={}, status="done", holdout_score=0.5, duration_s=9.0),), **fields,
    )  # fmt: skip
    write_tuning(tuning, tmp_path / str(fields["suite"]) / "tune-gated-0.5-s0")
    results = load_stored(tmp_path, *grid())
    assert results.tunings
    assert math.isnan(row_of(results, "gated")["tuning_trials"])
    (part,) = results.comparisons()
    assert not any("searched" in sentence for sentence in sentences(part, comparison(part)))
