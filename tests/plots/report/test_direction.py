"""A score of which less is better: whatever says "best", "worse" or "against dense" follows its direction."""

from __future__ import annotations

from pathlib import Path

import pytest
from greenprune.bench.records.record import Record
from greenprune.bench.records.score import Score
from greenprune.plots.figures.score import score_against_macs, score_in_words, training_energy_in_words
from greenprune.plots.frame.comparison import comparison, reading_order
from greenprune.plots.frame.load import load
from greenprune.plots.report.regressions import compare
from greenprune.plots.report.summary import sentences
from greenprune.plots.tables.best import best_rows
from greenprune.plots.tables.columns import readable
from greenprune.plots.tables.tables import markdown_text

from tests.plots.records import record, store

ERROR = Score(name="RMSE", unit="m", higher_is_better=False)
UNION = Score(name="mIoU", unit="fraction")


def run(method: str, value: float, seed: int = 0, score: Score = ERROR, **changes: object) -> Record:
    return record(method, seed=seed, score=score, train_score=value, holdout_score=value, test_score=value, **changes)


def three(method: str, value: float, score: Score = ERROR) -> list[Record]:
    return [run(method, value + 0.001 * seed, seed, score) for seed in range(3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return store(tmp_path / "base", *three("dense", 0.30), *three("gated", 0.32), *three("magnitude", 0.40))


def test_the_table_says_the_unit_and_the_direction(folder: Path) -> None:
    table = reading_order(comparison(load(folder)))
    text = markdown_text(table)
    assert "| Test RMSE, m (lower is better) | Against dense, RMSE, m (lower is better) |" in text
    assert "**0.3210 ± 0.0010**" in text  # gated is the best of the two
    assert "+0.0200" in text
    assert "0.4010" in text
    assert "**0.4010" not in text
    assert "accuracy" not in text.lower()
    places = best_rows(table, "test_score_mean") & best_rows(table, "difference_to_dense_mean")
    assert [table["method"].iloc[place] for place in places] == ["gated"]


def test_the_sentence_names_the_smallest(folder: Path) -> None:
    results = load(folder)
    said = " ".join(sentences(results, comparison(results)))
    assert "gated has the best RMSE of the pruned networks: it reaches RMSE 0.3210 ± 0.0010 m on the test set" in said
    assert "(lower is better), +0.0200 m against dense" in said


def test_the_front_is_of_small_errors(folder: Path) -> None:
    results = load(folder)
    figure = score_against_macs(results)
    (axes,) = figure.axes
    assert axes.get_ylabel() == "Test RMSE, m (lower is better)"
    (front,) = [line for line in axes.lines if line.get_label() == "Pareto front"]
    x, y = list(front.get_xdata()), list(front.get_ydata())
    assert x == sorted(x)
    assert y == sorted(y, reverse=True)  # what costs more is on it where its error is smaller
    assert (x[-1], y[-1]) == (100.0, pytest.approx(0.301))
    low, high = axes.get_ylim()
    assert high - low < 1.0  # two points would be the whole axis of it
    assert "Test RMSE (lower is better) against kept MACs. dense: 0.3010 m at 100.0 %" in score_in_words(results)
    assert training_energy_in_words(results).endswith(", dense.")


@pytest.mark.parametrize(("change", "worse"), [(0.05, True), (-0.05, False), (0.003, False)])
def test_more_error_is_a_regression(tmp_path: Path, change: float, worse: bool) -> None:
    base = load(store(tmp_path / "base", *three("gated", 0.32)))
    new = load(store(tmp_path / "new", *three("gated", 0.32 + change)))
    found = compare(base, new)
    (score,) = [c for c in found.changes if c.name == "RMSE, m, difference"]
    assert score.value == pytest.approx(change)
    assert score.worse == worse
    assert found.regressed == worse
    assert score.text().startswith("−0.0500" if change < 0 else f"+{change:.4f}")


def test_a_share_is_compared_in_points(tmp_path: Path) -> None:
    base = load(store(tmp_path / "base", *three("gated", 0.60, UNION)))
    new = load(store(tmp_path / "new", *three("gated", 0.57, UNION)))
    (score,) = [c for c in compare(base, new).changes if c.name == "mIoU, points"]
    assert (score.text(), score.worse) == ("−3.00 [−3.00, −3.00]", True)


def test_two_tasks_stand_side_by_side_and_apart(tmp_path: Path) -> None:
    runs = [run("dense", 0.3), run("gated", 0.4), run("dense", 0.7, score=UNION), run("gated", 0.8, score=UNION)]
    other = {"suite": "other"}
    store(tmp_path, *runs[:2], *(r.model_copy(update=other) for r in runs[2:]))
    table = comparison(load(tmp_path))
    assert [column.heading for column in readable(table)].count("Test score") == 1
    text = markdown_text(table)
    assert "| RMSE, m |" in text
    assert "| mIoU, % |" in text
    assert {"0.4000", "80.00"} <= {cell.strip() for cell in text.split("|")}


def test_an_invalid_run_may_have_no_score(tmp_path: Path) -> None:
    lost = run("gated", 0.4).model_copy(
        update={"test_score": None, "valid": False, "invalid_reason": "it is no number"}
    )
    results = load(store(tmp_path, run("dense", 0.3), Record.model_validate(lost.model_dump())))
    assert "| gated (invalid) |" in markdown_text(comparison(results))
    assert score_against_macs(results).axes[0].get_ylabel().startswith("Test RMSE")
    with pytest.raises(ValueError, match="test_score is missing"):
        Record.model_validate(lost.model_dump() | {"valid": True})
