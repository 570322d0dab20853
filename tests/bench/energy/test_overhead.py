"""What measuring costs may not grow. Figures: `python -m tests.bench.energy.overhead`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.energy.overhead import cost


def test_a_window_costs_at_most_a_millisecond_of_cpu_time(standin: Path) -> None:
    # The best of five stretches: a machine that is busy with other things makes every instruction dearer.
    assert cost("window", 200, standin)["best"] <= 1e-3


MOST_TIMES_BARE = 4
"""What the sampler may take, beside a thread that wakes as often and reads one file: two times, as a rule. That thread takes
from 0.2 to 1.5 % of a core, as a virtual machine has it."""


def test_the_sampler_takes_little_more_than_its_awakenings(standin: Path) -> None:
    found = cost("sampler", 5, standin)
    assert found["times_bare"] <= MOST_TIMES_BARE, found


def test_the_sampler_and_a_windows_edges_take_at_most_half_a_percent_of_a_training_of_a_minute(standin: Path) -> None:
    found = cost("training", 10, standin)
    assert found["pairs"] >= 5
    if found["own_cost_of_a_window_of_60_s"] <= MOST_TIMES_BARE * cost("sampler", 3, standin)["bare_share"]:
        return  # where awakenings are so dear
    # Their own clocks, so that nothing else on the machine counts; a busy one makes every awakening dearer.
    if found["share_of_a_core_that_the_training_got"] < 0.9 and found["own_cost_of_a_window_of_60_s"] > 0.005:
        pytest.skip(f"this machine is too busy to tell: {found}")
    assert found["own_cost_of_a_window_of_60_s"] <= 0.005, found


def test_training_itself_is_not_slower_with_the_meter(standin: Path) -> None:
    found = cost("training", 20, standin)
    _, low, high = found["training_thread_ratio"]
    if high - low > 0.01:
        pytest.skip(f"this machine is too busy to tell: {found}")
    assert low <= 1.005, found
