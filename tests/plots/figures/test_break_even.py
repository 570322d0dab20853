"""After how many inferences a training has paid for itself, against numbers worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from greenprune.plots.figures.breakeven import break_even_in_words, energy_break_even, inferences_text
from greenprune.plots.frame.breakeven import break_even, inferences_until
from greenprune.plots.frame.load import load

from tests.plots.records import priced, store


def test_break_even_by_hand(tmp_path: Path) -> None:
    results = load(store(tmp_path, priced(8000, 1.0, method="dense"), priced(10_000, 0.5)))
    (entry,) = break_even(results)
    # an inference saves 4 mJ x (1 - 0.5) = 2 mJ
    assert entry.already_trained.value == pytest.approx(10_000 / 0.002, rel=1e-3)
    assert entry.instead is not None
    assert entry.instead.value == pytest.approx(2_000 / 0.002, rel=1e-3)
    mean, low, high = entry.saved_j(np.asarray([0.0, 1e6]))
    np.testing.assert_allclose(mean, [-2000, 0], atol=5)
    np.testing.assert_allclose(low, mean, atol=1e-6)  # no interval in the record, one seed
    np.testing.assert_allclose(high, mean, atol=1e-6)


def test_break_even_of_what_trains_cheaper_and_of_what_saves_nothing(tmp_path: Path) -> None:
    runs = [priced(8000, 1.0, method="dense"), priced(6000, 0.5), priced(9000, 1.1, method="magnitude")]
    entries = {entry.method: entry for entry in break_even(load(store(tmp_path, *runs)))}
    assert entries["gated"].instead is not None
    assert entries["gated"].instead.value == 0
    assert math.isinf(entries["magnitude"].already_trained.value)
    words = break_even_in_words(load(tmp_path))
    assert "gated 50 %: 3.00 million with a dense network there already, from the start when trained instead" in words
    assert "magnitude 50 %: never" in words


def test_break_even_interval_comes_from_the_blocks_and_from_the_seeds(tmp_path: Path) -> None:
    dense = [priced(8000, 1.0, method="dense", seed=seed) for seed in range(3)]
    one = load(store(tmp_path / "one", dense[0], priced(10_000, 0.5, interval=1.2)))
    (entry,) = break_even(one)
    # at the ends of the ratio's interval: 10 kJ / (4 mJ x (1 - 0.5 / 1.2)) and x 1.2
    assert entry.already_trained.low == pytest.approx(10_000 / (0.004 * (1 - 0.5 / 1.2)), rel=0.02)
    assert entry.already_trained.high == pytest.approx(10_000 / (0.004 * (1 - 0.5 * 1.2)), rel=0.02)
    spread = [priced(10_000, ratio, seed=seed) for seed, ratio in enumerate((0.3, 0.5, 0.7))]
    (entry,) = break_even(load(store(tmp_path / "three", *dense, *spread)))
    assert entry.already_trained.low < 0.8 * entry.already_trained.value < 1.2 * entry.already_trained.value
    assert entry.already_trained.high > 1.2 * entry.already_trained.value


def test_over_two_seeds_the_interval_of_what_training_takes_is_that_of_student(tmp_path: Path) -> None:
    """Half its width is 12.7 standard errors, not the distance of the two."""
    dense = [priced(8000, 1.0, method="dense", seed=seed) for seed in range(2)]
    paid = [priced(joules, 0.5, seed=seed) for seed, joules in enumerate((9_990, 10_010))]
    (entry,) = break_even(load(store(tmp_path, *dense, *paid)))
    half_j = 12.706 * 10  # of the mean of the two
    low_j, high_j = np.percentile(entry.training_draws_j, [2.5, 97.5])
    assert low_j == pytest.approx(10_000 - half_j, abs=0.15 * half_j)
    assert high_j == pytest.approx(10_000 + half_j, abs=0.15 * half_j)
    assert np.median(entry.training_draws_j) == pytest.approx(10_000, abs=2)


def test_break_even_without_dense_still_tells_what_pays_the_whole_training(tmp_path: Path) -> None:
    results = load(store(tmp_path, priced(10_000, 0.5)))
    (entry,) = break_even(results)
    assert entry.instead is None
    assert entry.already_trained.value == pytest.approx(5e6, rel=1e-3)
    left, _ = energy_break_even(results).axes
    assert "no dense training to compare with" in [text.get_text() for text in left.texts]


def test_inferences_until() -> None:
    found = inferences_until(np.asarray([10.0, -1.0, 5.0]), np.asarray([2.0, 1.0, 0.0]))
    assert list(found) == [5.0, 0.0, math.inf]


def test_never_is_said_in_the_picture(tmp_path: Path) -> None:
    _, right = energy_break_even(load(store(tmp_path, priced(8000, 1.0, method="dense"), priced(9000, 1.3)))).axes
    assert [text.get_text() for text in right.texts] == ["never: no saving shown"]
    (entry,) = break_even(load(tmp_path))
    assert inferences_text(entry.already_trained) == "never"
