"""The files and what a terminal shows: what stands where, and what is left out."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd
import pytest
from greenprune.bench.records.score import Score
from greenprune.bench.text import bounded, listed, mean_sd, plural, signed_points, three_digits
from greenprune.plots.frame.comparison import comparison
from greenprune.plots.frame.frame import Results
from greenprune.plots.tables.tables import csv_text, markdown_text, terminal_table, write_tables
from rich.console import Console

from tests.plots.records import NINE, failed, grid, inference, record
from tests.plots.tables.rows import load_stored

NAN = float("nan")


def test_what_matters_most_is_in_the_first_table(tmp_path: Path) -> None:
    results = load_stored(tmp_path, *grid(NINE, (0.3, 0.5, 0.7), 3))
    heading = markdown_text(comparison(results)).splitlines()[0].strip("| ").split(" | ")
    assert heading == [
        "Method", "Budget, %", "Runs", "MACs kept, %", "Params kept, %", "Test accuracy, %", "Against dense, points",
        "Training samples, × dense", "Training MACs, × dense", "Training time, × dense",
        "Training energy, × dense, modelled", "Inference time, × dense, batch 250",
        "Inference energy, × dense, batch 250, modelled",
    ]  # fmt: skip


def test_csv_holds_the_numbers_unrounded(tmp_path: Path) -> None:
    results = load_stored(tmp_path, *grid(seeds=3))
    read = pd.read_csv(io.StringIO(csv_text(comparison(results))))
    pd.testing.assert_frame_equal(read, comparison(results), check_dtype=False, check_exact=True)


def test_files(tmp_path: Path) -> None:
    results = load_stored(tmp_path / "results", *grid())
    written = write_tables(results, tmp_path / "out")
    assert [path.name for path in written] == ["table.csv", "table.md", "table.tex"]
    assert written[1].read_text(encoding="utf-8") == markdown_text(comparison(results))


def test_markdown_is_rectangular(tmp_path: Path) -> None:
    strange = record("gated").model_copy(update={"method": "a|b"})
    lines = [
        line
        for line in markdown_text(comparison(load_stored(tmp_path, record(), strange))).splitlines()
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
    results = load_stored(tmp_path, *grid(NINE, (0.3, 0.5), seeds), failed("magnitude", seed=9))
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
    results = load_stored(tmp_path, *runs)
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
    assert _printed(load_stored(tmp_path, failed()), 80) == ["There is no finished run. Problems: failed (1)."]


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


def test_a_name_of_a_score_breaks_no_table(tmp_path: Path) -> None:
    odd = Score(name="a|b <img src=x>", unit="fraction")
    runs = [run.model_copy(update={"score": odd, "test_scores": {}}) for run in grid()]
    text = markdown_text(comparison(load_stored(tmp_path, *runs)))
    assert "<img" not in text
    heading, line = text.splitlines()[:2]
    assert heading.replace("\\|", "").count("|") == line.count("|")
