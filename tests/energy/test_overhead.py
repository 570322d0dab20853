"""What measuring costs may not grow. Figures: `python -m tests.energy.overhead`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.energy.overhead import cost


def test_a_window_costs_at_most_a_millisecond_of_cpu_time(standin: Path) -> None:
    assert cost("window", 100, standin)["cpu_s"] <= 1e-3


def test_the_sampler_takes_at_most_half_a_percent_of_a_core(standin: Path) -> None:
    # The best of five stretches: a machine that is busy with other things makes every awakening dearer.
    assert cost("sampler", 5, standin)["best"] <= 0.005


def test_training_with_the_meter_is_not_slower(standin: Path) -> None:
    found = cost("training", 20, standin)
    ratio, low, high = found["cpu_ratio"]
    if high - low > 0.01:
        pytest.skip(f"this machine is too busy to tell: {ratio:.3f} [{low:.3f}, {high:.3f}]")
    assert low <= 1.005, found
