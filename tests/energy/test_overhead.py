"""What measuring costs may not grow. Figures: `python -m tests.energy.overhead`."""

from __future__ import annotations

from pathlib import Path

from tests.energy.overhead import cost


def test_a_window_costs_at_most_a_millisecond_of_cpu_time(standin: Path) -> None:
    assert cost("window", 100, standin)["cpu_s"] <= 1e-3


def test_the_sampler_takes_at_most_half_a_percent_of_a_core(standin: Path) -> None:
    # The best of five stretches: a machine that is busy with other things makes every awakening dearer.
    assert cost("sampler", 5, standin)["best"] <= 0.005


def test_training_with_the_meter_is_not_slower(standin: Path) -> None:
    found = cost("training", 20, standin)
    # A busy machine widens the interval and does not move it; the claim is refuted when all of it lies above.
    assert found["cpu_ratio"][1] <= 1.005, found
