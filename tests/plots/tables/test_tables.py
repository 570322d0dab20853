"""Tables against numbers worked out by hand."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from greenprune.bench.energy.reading import Reading
from greenprune.bench.records.cost import SampleMacs
from greenprune.bench.records.record import Ledger, LedgerEntry, Record
from greenprune.bench.records.score import Score
from greenprune.bench.records.tuning import Spent, Trial, Tuning, write_tuning
from greenprune.bench.text import bounded, listed, mean_sd, plural, signed_points, three_digits
from greenprune.plots.figures.budget import budget_achieved, budget_in_words
from greenprune.plots.frame.comparison import comparison, reading_order
from greenprune.plots.frame.frame import Results
from greenprune.plots.frame.load import load
from greenprune.plots.report.summary import sentences
from greenprune.plots.tables.columns import readable
from greenprune.plots.tables.tables import csv_text, markdown_text, terminal_table, write_tables
from rich.console import Console

from tests.plots.records import ACCURACY, DENSE_MACS, NINE, failed, grid, inference, reading, record, source, store

NAN = float("nan")


def _load(folder: Path, *records: Record) -> Results:
    return load(store(folder, *records))


def _row(results: Results, method: str, budget: float | None = None, *, valid: bool = True) -> dict[str, Any]:
    table = comparison(results)
    rows = table[(table["method"] == method) & (table["valid"] == valid)]
    (row,) = (rows if budget is None else rows[rows["budget"] == budget]).to_dict("records")
    return {str(name): value for name, value in row.items()}


def _figures(row: dict[str, Any], name: str, *ends: str) -> list[float]:
    return [row[f"{name}_{end}"] for end in ends]


def _training(samples: int, macs: int, seconds: float) -> Ledger:
    entry = LedgerEntry(phase="train", samples=samples, forward_macs=macs, duration_s=seconds)
    return Ledger(allowance_samples=1000, entries=(entry, entry))


def test_mean_sd_and_paired_difference_over_three_seeds(tmp_path: Path) -> None:
    runs = [record(seed=seed, test_score=0.90 + seed / 100) for seed in range(3)]
    for seed, loss in enumerate((0.01, 0.02, 0.03)):
        runs.append(record("gated", seed=seed, test_score=0.90 + seed / 100 - loss))
    row = _row(_load(tmp_path, *runs), "gated")
    assert (row["runs"], row["seeds"], row["pairs"]) == (3, "0 1 2", 3)
    assert _figures(row, "test_score", "mean", "sd") == pytest.approx([89, 0], abs=1e-9)
    # differences -1, -2, -3: mean -2, sd 1, and t(0.975, 2 degrees of freedom) = 4.302653
    half_width = 4.302653 / math.sqrt(3)
    found = _figures(row, "difference_to_dense", "mean", "sd", "low", "high")
    assert found == pytest.approx([-2, 1, -2 - half_width, -2 + half_width], rel=1e-6)


def test_pairs_are_made_by_seed(tmp_path: Path) -> None:
    """Dense has seeds 1 and 2, gated 0, 1 and 2: what has no partner counts in the mean alone."""
    dense = [record(seed=seed, test_score=accuracy) for seed, accuracy in ((1, 0.90), (2, 0.80))]
    gated = [record("gated", seed=seed, test_score=a) for seed, a in ((0, 0.50), (1, 0.89), (2, 0.77))]
    row = _row(_load(tmp_path, *dense, *gated), "gated")
    assert (row["runs"], row["pairs"]) == (3, 2)
    assert row["test_score_mean"] == pytest.approx(72)
    assert _figures(row, "difference_to_dense", "mean", "sd") == pytest.approx([-2, math.sqrt(2)])


def test_one_seed_has_no_spread_and_says_so(tmp_path: Path) -> None:
    results = _load(tmp_path, *grid(seeds=1))
    row = _row(results, "gated")
    assert row["runs"] == 1
    assert all(math.isnan(row[f"{name}_sd"]) for name in ("test_score", "difference_to_dense"))
    assert math.isnan(row["difference_to_dense_low"])
    text = markdown_text(comparison(results))
    assert "±" not in text
    assert "| Runs |" in text
    assert "| gated | 50 | 1 |" in text
    assert "±" in markdown_text(comparison(_load(tmp_path, *grid(seeds=2))))


def test_training_relative_to_dense(tmp_path: Path) -> None:
    dense = record(ledger=_training(100, 100 * DENSE_MACS, 40.0), energy={"training": reading(source(400.0))})
    gated = record("gated", ledger=_training(90, 50 * DENSE_MACS, 30.0), energy={"training": reading(source(100.0))})
    row = _row(_load(tmp_path, dense, gated), "gated")
    amounts = ("train_samples", "train_forward_macs", "train_duration_s")
    assert [row[f"{name}_mean"] for name in amounts] == [180, 100 * DENSE_MACS, 60]
    ratios = ("train_samples", "train_forward_macs", "train_duration", "train_energy_modelled")
    assert [row[f"{name}_ratio_mean"] for name in ratios] == pytest.approx([0.9, 0.5, 0.75, 0.25])
    assert _figures(row, "train_energy_modelled_j", "mean", "low", "high") == pytest.approx([100, 70, 140])
    assert math.isnan(row["train_energy_measured_ratio_mean"])
    assert math.isnan(row["train_energy_measured_j_mean"])


def test_bounds_are_averaged_like_the_figure(tmp_path: Path) -> None:
    runs = [record(seed=s, energy={"training": reading(source(j, low=0.5, high=2))}) for s, j in ((0, 10), (1, 30))]
    found = _figures(_row(_load(tmp_path, *runs), "dense"), "train_energy_modelled_j", "mean", "sd", "low", "high")
    assert found == pytest.approx([20, math.sqrt(200), 10, 40])


def test_a_figure_that_one_run_lacks_is_unknown_for_the_row(tmp_path: Path) -> None:
    lost: dict[str, Reading] = {"training": reading(source(None))}
    runs = [record(), record("gated", seed=0), record("gated", seed=1, energy=lost)]
    row = _row(_load(tmp_path, *runs), "gated")
    assert math.isnan(row["train_energy_modelled_j_mean"])
    assert row["train_duration_s_mean"] > 0
    assert row["large_batch_energy_ratio_modelled_mean"] > 0


def test_inference_at_batch_1_and_at_the_largest_batch(tmp_path: Path) -> None:
    measured = (inference(1, 0.9), inference(64, 0.7), inference(250, 0.5))
    results = _load(tmp_path, record(), record("gated", inference=measured))
    row = _row(results, "gated")
    assert row["large_batch_size"] == 250
    assert _figures(row, "batch_1_latency_ratio", "mean", "low", "high") == pytest.approx([0.9, 0.88, 0.92])
    assert _figures(row, "large_batch_latency_ratio", "mean", "low", "high") == pytest.approx([0.5, 0.48, 0.52])
    assert row["batch_1_latency_ms_mean"] == pytest.approx(4.5)
    assert row["large_batch_energy_modelled_j_per_1000_images_mean"] == pytest.approx(2.0)
    headings = [column.heading for column in readable(comparison(results))]
    assert "Inference time, × dense, batch 250" in headings
    assert "Inference energy, × dense, batch 1, modelled" in headings


def test_some_runs_without_inference(tmp_path: Path) -> None:
    results = _load(tmp_path, record(), record("gated", seed=0), record("gated", seed=1, inference=()))
    row = _row(results, "gated")
    assert math.isnan(row["large_batch_latency_ratio_mean"])
    assert _row(results, "dense")["large_batch_latency_ratio_mean"] == pytest.approx(1.0)
    first, second = [line for line in markdown_text(comparison(results)).splitlines() if line.startswith("| gated")]
    assert first.endswith(" | – | – |")
    assert second.endswith(" | – | – | – | – |")


def test_no_inference_at_all_leaves_its_columns_out(tmp_path: Path) -> None:
    results = _load(tmp_path, record(inference=()), record("gated", inference=()))
    assert not [c.heading for c in readable(comparison(results)) if "Inference" in c.heading]


def test_without_dense_nothing_is_relative(tmp_path: Path) -> None:
    results = _load(tmp_path, record("gated"), record("magnitude"))
    row = _row(results, "gated")
    assert row["pairs"] == 0
    assert math.isnan(row["difference_to_dense_mean"])
    assert math.isnan(row["train_duration_ratio_mean"])
    headings = [column.heading for column in readable(comparison(results))]
    assert "Test accuracy, %" in headings
    assert not {"Against dense, points", "Training time, × dense"} & set(headings)


def test_invalid_runs_have_rows_of_their_own(tmp_path: Path) -> None:
    runs = [record("gated", seed=seed, test_score=accuracy) for seed, accuracy in ((0, 0.8), (1, 0.9))]
    invalid = record("gated", seed=2, valid=False, invalid_reason="overdrew its ledger", test_score=0.99)
    results = _load(tmp_path, record(), *runs, invalid)
    assert _row(results, "gated")["test_score_mean"] == pytest.approx(85)
    assert _row(results, "gated", valid=False)["test_score_mean"] == pytest.approx(99)
    assert "| gated (invalid) | 50 | 1 |" in markdown_text(comparison(results))


def test_an_invalid_dense_run_is_no_reference(tmp_path: Path) -> None:
    row = _row(_load(tmp_path, record(valid=False, invalid_reason="overdrew its ledger"), record("gated")), "gated")
    assert row["pairs"] == 0


def test_rows_are_sorted_and_machines_kept_apart(tmp_path: Path) -> None:
    other = {"cpu": "Other CPU", "cores": 8}
    here = [record("gated", budget=0.7), record("gated", budget=0.3), record("depgraph"), record()]
    there = [run.model_copy(update={"machine": other, "key": f"{run.key}-there"}) for run in here]
    table = comparison(_load(tmp_path, *here, *there))
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
    table = reading_order(comparison(_load(tmp_path, *here, invalid, *there)))
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
    results = _load(tmp_path, record(test_score=0.86), *runs, masked.model_copy(update={"cost": cost}))
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


def test_what_matters_most_is_in_the_first_table(tmp_path: Path) -> None:
    results = _load(tmp_path, *grid(NINE, (0.3, 0.5, 0.7), 3))
    heading = markdown_text(comparison(results)).splitlines()[0].strip("| ").split(" | ")
    assert heading == [
        "Method", "Budget, %", "Runs", "MACs kept, %", "Params kept, %", "Test accuracy, %", "Against dense, points",
        "Training samples, × dense", "Training MACs, × dense", "Training time, × dense",
        "Training energy, × dense, modelled", "Inference time, × dense, batch 250",
        "Inference energy, × dense, batch 250, modelled",
    ]  # fmt: skip


def test_csv_holds_the_numbers_unrounded(tmp_path: Path) -> None:
    results = _load(tmp_path, *grid(seeds=3))
    read = pd.read_csv(io.StringIO(csv_text(comparison(results))))
    pd.testing.assert_frame_equal(read, comparison(results), check_dtype=False, check_exact=True)


def test_files(tmp_path: Path) -> None:
    results = _load(tmp_path / "results", *grid())
    written = write_tables(results, tmp_path / "out")
    assert [path.name for path in written] == ["table.csv", "table.md", "table.tex"]
    assert written[1].read_text(encoding="utf-8") == markdown_text(comparison(results))


def test_markdown_is_rectangular(tmp_path: Path) -> None:
    strange = record("gated").model_copy(update={"method": "a|b"})
    lines = [
        line
        for line in markdown_text(comparison(_load(tmp_path, record(), strange))).splitlines()
        if line.startswith("|")
    ]
    assert len(lines) == 2 * 4  # what matters most, and the rest
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    assert widths == [widths[0]] * 4 + [widths[-1]] * 4
    assert widths[0] != widths[-1]


def _printed(results: Results, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(terminal_table(results))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= width
    return [line.rstrip() for line in lines]


@pytest.mark.parametrize("width", [70, 80, 120])
@pytest.mark.parametrize("seeds", [1, 3])
def test_terminal_table_never_breaks_a_number(tmp_path: Path, width: int, seeds: int) -> None:
    results = _load(tmp_path, *grid(NINE, (0.3, 0.5), seeds), failed("magnitude", seed=9))
    text = "\n".join(_printed(results, width))
    assert "…" not in text
    for row in comparison(results).to_dict("records"):
        assert f"{row['test_score_mean']:.2f}" in text
        assert f"{row['large_batch_latency_ratio_mean']:.2f}" in text
        assert signed_points(row["difference_to_dense_mean"]) in text or row["method"] == "dense"
    assert "Problems: failed (1)." in text


def test_a_terminal_shows_as_much_as_fits_on_one_line_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    measured = (inference(250, 0.7),)
    runs = [record(seed=seed, test_score=0.9, inference=measured) for seed in range(3)]
    runs += [record("gated", seed=s, test_score=0.89 - s / 100, inference=measured) for s in range(3)]
    results = _load(tmp_path, *runs)
    said = {}
    for width in (120, 80, 70):
        lines = _printed(results, width)
        (gated,) = [line for line in lines if line.startswith("gated")]
        said[width] = gated.split(), " ".join(lines[lines.index("") :])
    # 88 on average with sd 1; differences -1, -2, -3: mean -2, half-width 4.302653 / sqrt(3) = 2.48
    wide, middle, narrow = (said[width][0] for width in (120, 80, 70))
    assert wide[5:9] == ["88.00", "±1.00", "−2.00", "[−4.48,"]
    assert middle[4:7] == ["88.00", "±1.00", "−2.00"]
    assert narrow[4:6] == ["88.00", "−2.00"]
    assert "Brackets: 95 % intervals." in said[120][1]
    assert "table.md" not in said[120][1]
    assert "±: standard deviation over seeds. For 95 % intervals: table.md" in said[80][1]
    assert "For standard deviations and 95 % intervals: table.md" in said[70][1]


def test_a_terminal_says_when_there_is_no_finished_run(tmp_path: Path) -> None:
    assert _printed(_load(tmp_path, failed()), 80) == ["There is no finished run. Problems: failed (1)."]


def test_absolute_joules_of_inference_come_with_those_of_dense_beside_them(tmp_path: Path) -> None:
    busy = inference(250, 0.5, joules_per_1000=12.0).model_copy(update={"energy_ratio": {"modelled": (0.5, 0.45, 0.6)}})
    results = _load(tmp_path, record(inference=(inference(250, 1.0),)), record("gated", inference=(busy,)))
    columns = {column.heading: column for column in readable(comparison(results))}
    joules = columns["Inference energy, J per 1,000 images, batch 250, modelled"]
    ratio = columns["Inference energy, × dense, batch 250, modelled"]
    assert joules.group != ratio.group  # a page keeps what may be compared apart from what may not
    assert joules.text(_row(results, "gated")) == "6.00 [4.20, 8.40]; dense 12.0"
    assert joules.text(_row(results, "dense")) == "4.00 [2.80, 5.60]; dense 4.00"
    assert ratio.text(_row(results, "gated")) == "0.50 [0.45, 0.60]"
    assert ratio.text(_row(results, "dense")) == "1.00"  # no joules of its blocks, no interval
    assert "Joules of different runs were measured at different times" in markdown_text(comparison(results))


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (mean_sd(1.005, 0.25, 1), "1.0 ± 0.2"),
        (mean_sd(1.0, NAN, 2), "1.00"),
        (mean_sd(NAN, NAN, 2), "–"),
        (bounded(1, 0.5, 2, str), "1 [0.5, 2]"),
        (bounded(1, NAN, NAN, str), "1"),
        (bounded(NAN, NAN, NAN, str), "–"),
        (signed_points(-1.305), "−1.30"),
        (signed_points(0.12), "+0.12"),
        (signed_points(-0.004), "0.00"),
        (three_digits(0.01234), "0.0123"),
        (three_digits(5.1), "5.10"),
        (three_digits(12345.6), "12,346"),
        (three_digits(0.0), "0"),
        (listed(["a"]), "a"),
        (listed(["a", "b", "c"]), "a, b and c"),
        (plural(1, "run"), "1 run"),
        (plural(2, "run"), "2 runs"),
    ],
)
def test_numbers_for_people(found: str, text: str) -> None:
    assert found == text


def test_the_price_of_tuning_stands_beside_the_training(tmp_path: Path) -> None:
    results = _load(tmp_path, *grid(seeds=1))
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
        suite="cifar10-cpu", method="gated", method_name="gated", budget=0.5, seed=0, settings={}, holdout_images=10,
        space={}, machine={}, command="", trials=tuple(trials), score=ACCURACY,
    )  # fmt: skip
    write_tuning(tuning, tmp_path / "cifar10-cpu" / "tune-gated-0.5-s0")
    results = load(tmp_path)
    assert _row(results, "gated")["tuning_macs_ratio"] == pytest.approx(1.5)
    assert _row(results, "magnitude")["tuning_macs_ratio"] == 0.0
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


def test_a_name_of_a_score_breaks_no_table(tmp_path: Path) -> None:
    odd = Score(name="a|b <img src=x>", unit="fraction")
    runs = [run.model_copy(update={"score": odd, "test_scores": {}}) for run in grid()]
    text = markdown_text(comparison(_load(tmp_path, *runs)))
    assert "<img" not in text
    heading, line = text.splitlines()[:2]
    assert heading.replace("\\|", "").count("|") == line.count("|")


def test_what_single_images_cost_is_said(tmp_path: Path) -> None:
    run = record("dynamic")
    assert run.cost is not None
    sampled = SampleMacs(images=359, mean=0.49, std=0.06, low=0.31, high=0.54, edges=(0.0, 1.0), counts=(359,))
    run = run.model_copy(update={"cost": run.cost.model_copy(update={"sample_macs": sampled})})
    results = _load(tmp_path, record(), run)
    said = " ".join(sentences(results, comparison(results)))
    assert "of 359 test images one takes 49.0 ± 6.0 % of the dense MACs, from 31.0 to 54.0 %, gates included" in said
