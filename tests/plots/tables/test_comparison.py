"""Rows of the comparison against numbers worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from greenprune.bench.energy.reading import Reading
from greenprune.bench.records.cost import SampleMacs
from greenprune.bench.records.record import Ledger, LedgerEntry, Record
from greenprune.plots.figures.budget import budget_achieved, budget_in_words
from greenprune.plots.frame.checks import check
from greenprune.plots.frame.comparison import comparison, reading_order
from greenprune.plots.report.summary import sentences
from greenprune.plots.tables.columns import readable
from greenprune.plots.tables.tables import markdown_text

from tests.plots.records import DENSE_MACS, grid, inference, reading, record, source
from tests.plots.tables.rows import ends_of, load_stored, row_of


def _training(samples: int, macs: int, seconds: float) -> Ledger:
    entry = LedgerEntry(phase="train", samples=samples, forward_macs=macs, duration_s=seconds)
    return Ledger(allowance_samples=1000, entries=(entry, entry))


def test_mean_sd_and_paired_difference_over_three_seeds(tmp_path: Path) -> None:
    runs = [record(seed=seed, test_score=0.90 + seed / 100) for seed in range(3)]
    for seed, loss in enumerate((0.01, 0.02, 0.03)):
        runs.append(record("gated", seed=seed, test_score=0.90 + seed / 100 - loss))
    row = row_of(load_stored(tmp_path, *runs), "gated")
    assert (row["runs"], row["seeds"], row["pairs"]) == (3, "0 1 2", 3)
    assert ends_of(row, "test_score", "mean", "sd") == pytest.approx([89, 0], abs=1e-9)
    # differences -1, -2, -3: mean -2, sd 1, and t(0.975, 2 degrees of freedom) = 4.302653
    half_width = 4.302653 / math.sqrt(3)
    found = ends_of(row, "difference_to_dense", "mean", "sd", "low", "high")
    assert found == pytest.approx([-2, 1, -2 - half_width, -2 + half_width], rel=1e-6)


def test_pairs_are_made_by_seed(tmp_path: Path) -> None:
    """Dense has seeds 1 and 2, gated 0, 1 and 2: what has no partner counts in the mean alone."""
    dense = [record(seed=seed, test_score=accuracy) for seed, accuracy in ((1, 0.90), (2, 0.80))]
    gated = [record("gated", seed=seed, test_score=a) for seed, a in ((0, 0.50), (1, 0.89), (2, 0.77))]
    row = row_of(load_stored(tmp_path, *dense, *gated), "gated")
    assert (row["runs"], row["pairs"]) == (3, 2)
    assert row["test_score_mean"] == pytest.approx(72)
    assert ends_of(row, "difference_to_dense", "mean", "sd") == pytest.approx([-2, math.sqrt(2)])


def test_one_seed_has_no_spread_and_says_so(tmp_path: Path) -> None:
    results = load_stored(tmp_path, *grid(seeds=1))
    row = row_of(results, "gated")
    assert row["runs"] == 1
    assert all(math.isnan(row[f"{name}_sd"]) for name in ("test_score", "difference_to_dense"))
    assert math.isnan(row["difference_to_dense_low"])
    text = markdown_text(comparison(results))
    assert "±" not in text
    assert "| Runs |" in text
    assert "| gated | 50 | 1 |" in text
    assert "±" in markdown_text(comparison(load_stored(tmp_path, *grid(seeds=2))))


def test_training_relative_to_dense(tmp_path: Path) -> None:
    dense = record(ledger=_training(100, 100 * DENSE_MACS, 40.0), energy={"training": reading(source(400.0))})
    gated = record("gated", ledger=_training(90, 50 * DENSE_MACS, 30.0), energy={"training": reading(source(100.0))})
    row = row_of(load_stored(tmp_path, dense, gated), "gated")
    amounts = ("train_samples", "train_forward_macs", "train_duration_s")
    assert [row[f"{name}_mean"] for name in amounts] == [180, 100 * DENSE_MACS, 60]
    ratios = ("train_samples", "train_forward_macs", "train_duration", "train_energy_modelled")
    assert [row[f"{name}_ratio_mean"] for name in ratios] == pytest.approx([0.9, 0.5, 0.75, 0.25])
    assert ends_of(row, "train_energy_modelled_j", "mean", "low", "high") == pytest.approx([100, 70, 140])
    assert math.isnan(row["train_energy_measured_ratio_mean"])
    assert math.isnan(row["train_energy_measured_j_mean"])


def test_bounds_are_averaged_like_the_figure(tmp_path: Path) -> None:
    runs = [record(seed=s, energy={"training": reading(source(j, low=0.5, high=2))}) for s, j in ((0, 10), (1, 30))]
    found = ends_of(
        row_of(load_stored(tmp_path, *runs), "dense"), "train_energy_modelled_j", "mean", "sd", "low", "high"
    )
    assert found == pytest.approx([20, math.sqrt(200), 10, 40])


def test_a_figure_that_one_run_lacks_is_unknown_for_the_row(tmp_path: Path) -> None:
    lost: dict[str, Reading] = {"training": reading(source(None))}
    runs = [record(), record("gated", seed=0), record("gated", seed=1, energy=lost)]
    row = row_of(load_stored(tmp_path, *runs), "gated")
    assert math.isnan(row["train_energy_modelled_j_mean"])
    assert row["train_duration_s_mean"] > 0
    assert row["large_batch_energy_ratio_modelled_mean"] > 0


def test_inference_at_batch_1_and_at_the_largest_batch(tmp_path: Path) -> None:
    measured = (inference(1, 0.9), inference(64, 0.7), inference(250, 0.5))
    results = load_stored(tmp_path, record(), record("gated", inference=measured))
    row = row_of(results, "gated")
    assert row["large_batch_size"] == 250
    assert ends_of(row, "batch_1_latency_ratio", "mean", "low", "high") == pytest.approx([0.9, 0.88, 0.92])
    assert ends_of(row, "large_batch_latency_ratio", "mean", "low", "high") == pytest.approx([0.5, 0.48, 0.52])
    assert row["batch_1_latency_ms_mean"] == pytest.approx(4.5)
    assert row["large_batch_energy_modelled_j_per_1000_images_mean"] == pytest.approx(2.0)
    headings = [column.heading for column in readable(comparison(results))]
    assert "Inference time, × dense, batch 250" in headings
    assert "Inference energy, × dense, batch 1, modelled" in headings


def test_some_runs_without_inference(tmp_path: Path) -> None:
    results = load_stored(tmp_path, record(), record("gated", seed=0), record("gated", seed=1, inference=()))
    row = row_of(results, "gated")
    assert math.isnan(row["large_batch_latency_ratio_mean"])
    assert row_of(results, "dense")["large_batch_latency_ratio_mean"] == pytest.approx(1.0)
    first, second = [line for line in markdown_text(comparison(results)).splitlines() if line.startswith("| gated")]
    assert first.endswith(" | – | – |")
    assert second.endswith(" | – | – | – | – |")


def test_no_inference_at_all_leaves_its_columns_out(tmp_path: Path) -> None:
    results = load_stored(tmp_path, record(inference=()), record("gated", inference=()))
    assert not [c.heading for c in readable(comparison(results)) if "Inference" in c.heading]


def test_without_dense_nothing_is_relative(tmp_path: Path) -> None:
    results = load_stored(tmp_path, record("gated"), record("magnitude"))
    row = row_of(results, "gated")
    assert row["pairs"] == 0
    assert math.isnan(row["difference_to_dense_mean"])
    assert math.isnan(row["train_duration_ratio_mean"])
    headings = [column.heading for column in readable(comparison(results))]
    assert "Test accuracy, %" in headings
    assert not {"Against dense, points", "Training time, × dense"} & set(headings)


def test_invalid_runs_have_rows_of_their_own(tmp_path: Path) -> None:
    runs = [record("gated", seed=seed, test_score=accuracy) for seed, accuracy in ((0, 0.8), (1, 0.9))]
    invalid = record("gated", seed=2, valid=False, invalid_reason="overdrew its ledger", test_score=0.99)
    results = load_stored(tmp_path, record(), *runs, invalid)
    assert row_of(results, "gated")["test_score_mean"] == pytest.approx(85)
    assert row_of(results, "gated", valid=False)["test_score_mean"] == pytest.approx(99)
    assert "| gated (invalid) | 50 | 1 |" in markdown_text(comparison(results))


def test_an_invalid_dense_run_is_no_reference(tmp_path: Path) -> None:
    row = row_of(
        load_stored(tmp_path, record(valid=False, invalid_reason="overdrew its ledger"), record("gated")), "gated"
    )
    assert row["pairs"] == 0


def test_rows_are_sorted_and_machines_kept_apart(tmp_path: Path) -> None:
    other = {"cpu": "Other CPU", "cores": 8}
    here = [record("gated", budget=0.7), record("gated", budget=0.3), record("depgraph"), record()]
    there = [run.model_copy(update={"machine": other, "key": f"{run.key}-there"}) for run in here]
    table = comparison(load_stored(tmp_path, *here, *there))
    order = ["dense", "depgraph", "gated", "gated"]
    assert list(table["method"]) == order * 2
    assert list(table["budget"]) == [1.0, 0.5, 0.3, 0.7] * 2
    assert table["machine"].nunique() == 2
    assert (table["pairs"] == 1).all()  # the dense run of the same machine only
    assert readable(table)[0].heading == "Machine"


def test_people_read_budget_by_budget(tmp_path: Path) -> None:
    other = {"cpu": "Other CPU", "cores": 8}
    here = grid(("dense", "gated", "uniform"), (0.7, 0.3))
    invalid = record("depgraph", budget=0.3, valid=False, invalid_reason="kept too much")
    there = [run.model_copy(update={"machine": other, "key": f"{run.key}-there"}) for run in here]
    table = reading_order(comparison(load_stored(tmp_path, *here, invalid, *there)))
    once = [("dense", 1.0), ("gated", 0.3), ("uniform", 0.3), ("gated", 0.7), ("uniform", 0.7)]
    read = list(zip(table["method"], table["budget"], strict=True))
    assert read == [once[0], ("depgraph", 0.3), *once[1:], *once]
    assert list(table["machine"].map(table["machine"].unique().tolist().index)) == [0] * 6 + [1] * 5


def test_half_of_the_connections_is_another_budget_than_half_of_the_macs(tmp_path: Path) -> None:
    runs = [record("gated", test_score=0.80), record("uniform", test_score=0.79)]
    masked = record("magnitude_unstructured", test_score=0.85)
    assert masked.cost is not None
    cost = masked.cost.model_copy(
        update={"macs": masked.cost.macs_dense, "connections": 490, "connections_dense": 1000}
    )
    results = load_stored(tmp_path, record(test_score=0.86), *runs, masked.model_copy(update={"cost": cost}))
    text = markdown_text(comparison(results))
    assert "| magnitude_unstructured | 50 (connections) | 1 | 100.0 |" in text
    assert "| gated | 50 | 1 |" in text
    assert "| dense | 100 | 1 |" in text
    assert "**80.00**" in text  # best of those that keep half of the MACs
    assert "**85.00**" not in text
    said = " ".join(sentences(results, comparison(results)))
    assert "At 50 % of the MACs, gated has the best accuracy of the pruned networks" in said
    assert "At 50 % of the connections, magnitude_unstructured is the only pruned network" in said
    assert "magnitude_unstructured: 49.0 % for 50 % of the connections" in budget_in_words(results)
    (axes,) = budget_achieved(results).axes
    assert axes.get_ylim()[1] < 5  # the masked network's MACs, twice the budget, are not what was asked for
    assert axes.get_xlabel() == "MACs and connections requested, % of dense"


def test_absolute_joules_of_inference_come_with_those_of_dense_beside_them(tmp_path: Path) -> None:
    busy = inference(250, 0.5, joules_per_1000=12.0).model_copy(update={"energy_ratio": {"modelled": (0.5, 0.45, 0.6)}})
    results = load_stored(tmp_path, record(inference=(inference(250, 1.0),)), record("gated", inference=(busy,)))
    columns = {column.heading: column for column in readable(comparison(results))}
    joules = columns["Inference energy, J per 1,000 images, batch 250, modelled"]
    ratio = columns["Inference energy, × dense, batch 250, modelled"]
    assert joules.group != ratio.group  # a page keeps what may be compared apart from what may not
    assert joules.text(row_of(results, "gated")) == "6.00 [4.20, 8.40]; dense 12.0"
    assert joules.text(row_of(results, "dense")) == "4.00 [2.80, 5.60]; dense 4.00"
    assert ratio.text(row_of(results, "gated")) == "0.50 [0.45, 0.60]"
    assert ratio.text(row_of(results, "dense")) == "1.00"  # no joules of its blocks, no interval
    assert "Joules of different runs were measured at different times" in markdown_text(comparison(results))


def test_what_single_images_cost_is_said(tmp_path: Path) -> None:
    run = record("dynamic")
    assert run.cost is not None
    sampled = SampleMacs(images=359, mean=0.49, std=0.06, low=0.31, high=0.54, edges=(0.0, 1.0), counts=(359,))
    run = run.model_copy(update={"cost": run.cost.model_copy(update={"sample_macs": sampled})})
    results = load_stored(tmp_path, record(), run)
    said = " ".join(sentences(results, comparison(results)))
    assert "of 359 test images one takes 49.0 ± 6.0 % of the dense MACs, from 31.0 to 54.0 %, gates included" in said


def test_runs_of_one_label_with_other_options_are_a_problem(tmp_path: Path) -> None:
    def with_strength(seed: int, strength: int) -> Record:
        method = {"name": "gated", "options": {"strength": strength}}
        return record("gated", seed=seed, settings=record().settings | {"method": method})

    def told(folder: Path, *runs: Record) -> list[str]:
        problems = [problem for part in load_stored(folder, *runs).comparisons() for problem in check(part)]
        return [str(problem) for problem in problems if problem.kind == "mixed"]

    assert told(tmp_path / "one", with_strength(0, 1), with_strength(1, 1)) == []
    (problem,) = told(tmp_path / "two", with_strength(0, 1), with_strength(1, 9))
    assert "method.options.strength: 1 -> 9" in problem


def test_half_of_the_parameters_has_a_row_of_its_own(tmp_path: Path) -> None:
    def counting(cost: str, seed: int, score: float) -> Record:
        run = record("gated", seed=seed, test_score=score, settings=record().settings | {"cost": cost})
        assert run.cost is not None
        return run.model_copy(update={"cost": run.cost.model_copy(update={"kind": cost})})

    results = load_stored(tmp_path, record(), counting("macs", 0, 0.85), counting("params", 1, 0.60))
    rows = comparison(results).query("method == 'gated'")
    assert dict(zip(rows["budget_cost"], rows["test_score_mean"], strict=True)) == {"macs": 85.0, "params": 60.0}
