"""The three sentences that a report opens with: what they say of differences that are there, and of those that are not."""

from __future__ import annotations

from pathlib import Path

from greenprune.plots.frame.comparison import comparison
from greenprune.plots.frame.load import load
from greenprune.plots.report.answer import answer

from tests.plots.records import record, store


def said(folder: Path, *runs) -> list[str]:
    (part,) = load(store(folder, *runs)).comparisons()
    return answer(part, comparison(part))


def runs(method: str, scores: tuple[float, ...], **more) -> list:
    return [record(method, seed=seed, test_score=score, **more) for seed, score in enumerate(scores)]


def test_a_difference_that_is_there_has_its_side_its_size_and_its_interval(tmp_path: Path) -> None:
    dense, gated = runs("dense", (0.90, 0.91, 0.92)), runs("gated", (0.89, 0.899, 0.911))
    first, second, third = said(tmp_path, *dense, *gated, *runs("magnitude", (0.85, 0.858, 0.872)))
    # differences to dense 1.0, 1.1, 0.9: mean 1.0, sd 0.1, half-width 4.302653 / sqrt(3) * 0.1 = 0.25
    assert first == (
        "At 50 % of the MACs, gated has the highest test accuracy of 2 methods, 90.00 %: 1.00 points worse than the dense "
        "network (95 % interval 0.75 to 1.25, 3 seeds)."
    )
    # differences to magnitude 4.0, 4.1, 3.9
    assert second == "It is 4.00 points better than the next one, magnitude (95 % interval 3.75 to 4.25, 3 seeds)."
    assert third.startswith("Next to dense it takes 0.7")
    assert "the joules (modelled) and" in third


def test_an_interval_that_holds_zero_is_level(tmp_path: Path) -> None:
    dense, gated = runs("dense", (0.90, 0.90, 0.90)), runs("gated", (0.90, 0.91, 0.89))
    first, second, _ = said(tmp_path, *dense, *gated)
    assert first == (
        "At 50 % of the MACs, gated reaches a test accuracy of 90.00 %: level with the dense network (difference 0.00 points, "
        "95 % interval −2.48 to +2.48, 3 seeds)."
    )
    assert second == "No other method was run at this budget; this one has 3 runs with other seeds each."


def test_one_seed_may_be_chance(tmp_path: Path) -> None:
    first, second, _ = said(tmp_path, *runs("dense", (0.9,)), *runs("gated", (0.88,)), *runs("magnitude", (0.85,)))
    assert first.endswith("2.00 points worse than the dense network (one seed: this may be chance).")
    assert second == "It is 3.00 points better than the next one, magnitude (one seed: this may be chance)."


def test_of_a_score_that_is_better_low_the_lowest_leads(tmp_path: Path) -> None:
    error = {"score": {"name": "RMSE", "unit": "m", "higher_is_better": False}, "test_scores": {}}
    found = [
        *runs("dense", (2.0, 2.1), **error),
        *runs("gated", (2.5, 2.6), **error),
        *runs("magnitude", (3.0, 3.1), **error),
    ]
    first, second, _ = said(tmp_path, *found)
    assert "gated has the lowest test RMSE of 2 methods, 2.550 m: 0.500 m worse than the dense network" in first
    assert second.startswith("It is 0.500 m better than the next one, magnitude")


def test_without_a_pruned_network_it_says_so(tmp_path: Path) -> None:
    assert said(tmp_path / "dense", *runs("dense", (0.9,))) == [
        "1 run of the dense network alone: there is nothing to compare it with yet."
    ]
    invalid = record("gated", valid=False, invalid_reason="kept too much")
    assert said(tmp_path / "invalid", *runs("dense", (0.9,)), invalid) == [
        "No pruned network kept its budget: see what went wrong."
    ]


def test_with_unlike_seeds_a_method_is_compared_over_the_seeds_that_it_shares(tmp_path: Path) -> None:
    """Seed 1 is a harder one: who ran it has the lower mean, and is ahead all the same."""
    dense = runs("dense", (0.90, 0.86))
    first, second, _ = said(tmp_path, *dense, *runs("gated", (0.89, 0.85)), *runs("magnitude", (0.88,)))
    assert "gated has the best test accuracy of 2 methods over the seeds that it shares with each, 87.00 %" in first
    assert second == "It is 1.00 points better than the next one, magnitude (one seed: this may be chance)."
    assert "worse than the next" not in second


def test_the_next_one_is_the_one_that_it_is_ahead_of_by_least(tmp_path: Path) -> None:
    """By its mean magnitude is second, over the seeds that it shares with gated it is third."""
    found = [
        *runs("dense", (0.90, 0.86)),
        *runs("gated", (0.89, 0.85)),
        *runs("magnitude", (0.86,)),
        *runs("random", (0.88, 0.83)),
    ]
    _, second, _ = said(tmp_path, *found)
    assert "the next one, random" in second
