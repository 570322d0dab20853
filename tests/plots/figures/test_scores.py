"""Scores against joules with their front, budget and saving: against numbers worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from greenprune.plots.figures.budget import budget_achieved, saving_in_words, saving_predicted_and_measured
from greenprune.plots.figures.pareto import pareto_front
from greenprune.plots.figures.score import score_against_inference_energy, score_against_training_energy
from greenprune.plots.figures.style import LOOKS
from greenprune.plots.frame.comparison import comparison
from greenprune.plots.frame.load import load

from tests.plots.records import grid, priced, record, rich, store


def _line(axes, label: str):
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return line


def test_pareto_front() -> None:
    assert pareto_front([1, 2, 3, 2], [1, 3, 2, 2]) == [0, 1]
    assert pareto_front([2, 1, 1], [5, 5, 5]) == [1]
    assert pareto_front([math.nan, 1], [9, 1]) == [1]
    assert pareto_front([], []) == []


def test_score_against_energy_shows_the_table(tmp_path: Path) -> None:
    results = load(rich(tmp_path, *grid(("dense", "gated", "magnitude"), (0.3, 0.5), 3)))
    table = comparison(results)
    gated = table[table["method"] == "gated"]
    (axes,) = score_against_training_energy(results).axes
    order = gated.sort_values("train_energy_modelled_j_mean")
    np.testing.assert_allclose(_line(axes, "gated").get_xdata(), order["train_energy_modelled_j_mean"] / 1000)
    np.testing.assert_allclose(_line(axes, "gated").get_ydata(), order["test_score_mean"])
    assert axes.get_xlabel() == "Training energy, kJ (modelled)"
    (axes,) = score_against_inference_energy(results).axes
    np.testing.assert_allclose(_line(axes, "gated").get_xdata(), gated["large_batch_energy_ratio_modelled_mean"])
    assert _line(axes, "gated").get_color() == LOOKS["gated"].color
    assert axes.get_xlabel() == "Inference energy, × dense (modelled, batch 250)"
    front = _line(axes, "Pareto front")
    x, y = table["large_batch_energy_ratio_modelled_mean"], table["test_score_mean"]
    expected = pareto_front(list(x), list(y))
    np.testing.assert_allclose(front.get_xdata(), x.iloc[expected])
    assert list(front.get_ydata()) == sorted(front.get_ydata())


def test_an_invalid_network_is_never_on_the_front(tmp_path: Path) -> None:
    cheat = record("magnitude", valid=False, invalid_reason="kept too much", test_score=0.99)
    (axes,) = score_against_inference_energy(load(store(tmp_path, *grid(("dense", "gated")), cheat))).axes
    assert max(_line(axes, "Pareto front").get_ydata()) < 99
    (marked,) = [c for c in axes.collections if c.get_label() == "invalid run"]
    np.testing.assert_allclose(marked.get_offsets()[:, 1], [99])


def test_each_kind_of_energy_has_a_panel(tmp_path: Path) -> None:
    results = load(store(tmp_path, *grid(kinds=("measured", "modelled"))))
    for draw in (score_against_training_energy, score_against_inference_energy):
        labels = [axes.get_xlabel() for axes in draw(results).axes]
        assert [("measured" in label, "modelled" in label) for label in labels] == [(True, False), (False, True)]


def test_budget_is_drawn_as_what_was_missed(tmp_path: Path) -> None:
    runs = grid(("dense", "gated"), (0.5,), 2)
    invalid = record("magnitude", valid=False, invalid_reason="kept too much")
    results = load(store(tmp_path, *runs, invalid))
    (axes,) = budget_achieved(results).axes
    kept = results.runs[results.runs["method"] == "gated"]["kept_macs"]
    np.testing.assert_allclose(sorted(_line(axes, "gated").get_ydata()), sorted((kept - 0.5) * 100))
    assert _line(axes, "invalid run").get_marker() == "x"
    (band,) = axes.collections
    assert band.get_datalim(axes.transData).y0 == pytest.approx(-2.0)


def test_saving_is_one_minus_the_ratio(tmp_path: Path) -> None:
    results = load(store(tmp_path, record(), priced(1000, 0.7, interval=1.1)))
    time, energy = saving_predicted_and_measured(results).axes
    assert _line(time, "gated").get_ydata() == pytest.approx([30.0])
    assert _line(energy, "gated").get_ydata() == pytest.approx([30.0])
    assert _line(time, "as MACs predict").get_xdata() == pytest.approx([0, 100])
    assert "gated 50 %: " in saving_in_words(results)
    assert "30 % of time, 30 % of energy (modelled)" in saving_in_words(results)
