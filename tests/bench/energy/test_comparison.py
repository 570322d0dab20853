"""The comparison with other tools: its arithmetic, some of its rows. All: `python -m tests.bench.energy.comparison`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.energy.comparison.cases import CASES, Case
from tests.bench.energy.comparison.measure import measure
from tests.bench.energy.comparison.outcome import TOOLS, available, markdown, outcome, smallest, true_j


def test_the_true_joules_of_a_square_wave() -> None:
    case = Case("x", {}, 1.0, low_w=100, high_w=300, period_s=1.0)
    assert true_j(case, 0.0, 1.0) == pytest.approx(200)
    assert true_j(case, 0.25, 0.75) == pytest.approx(25 + 75)
    assert true_j(case, 3.5, 4.5) == pytest.approx(150 + 50)


def test_errors_are_means_over_windows_with_a_figure_and_zeros_are_told() -> None:
    windows = [[0.0, 0.0, 1.0, ""], [330.0, 1.0, 2.0, ""], [None, 2.0, 3.0, "refused"]]
    found = outcome(Case("x", {}, 1.0, windows=3), "Zeus", {"windows": windows, "problem": None})
    assert (found.true_j, found.energy_j, found.error_j, found.worst_j) == (300, 165, 165, 300)
    assert found.note == "refused; 1 of 2 read 0 J"


def test_a_tool_that_fails_has_no_figure_and_is_not_the_smallest() -> None:
    case = Case("x", {}, 1.0)
    failed = outcome(case, "Zeus", {"windows": [], "problem": "ValueError: no"})
    good = outcome(case, "greenprune", {"windows": [[290.0, 0.0, 1.0, ""]], "problem": None})
    assert (failed.error_j, failed.note) == (None, "ValueError: no")
    assert smallest([failed, good]) == "greenprune"
    assert smallest([failed]) == "none"
    table = markdown([good, failed], "about")
    assert "| x | 300 | 10 | no figure [1] | not run | greenprune |" in table
    assert "[1] x, Zeus: ValueError: no" in table


@pytest.mark.parametrize(
    ("start", "limit"), [("counter reset", 0.08), ("windows of 20 ms", 0.1), ("CUDA_VISIBLE_DEVICES=GPU", 0.05)]
)
def test_ours_has_the_smallest_error(start: str, limit: float, standin: Path, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name.startswith(start))
    found = [measure(case, tool, standin, tmp_path) for tool in TOOLS if available(tool)]
    ours = found[0]
    assert ours.error_j is not None, ours.note
    assert ours.error_j <= limit * (ours.true_j or 0)
    assert smallest(found) == "greenprune"


def test_a_hidden_gpu_is_not_counted(standin: Path, tmp_path: Path) -> None:
    ours = measure(next(c for c in CASES if "hidden" in c.name), "greenprune", standin, tmp_path)
    assert (ours.energy_j, ours.error_j) == (0, 0)
