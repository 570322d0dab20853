"""What a window says of a card, without a card: marks and notes in, a reading out."""

from __future__ import annotations

import pytest
from greenprune.bench.energy.nvml.notes import NvmlMark, Stretch
from greenprune.bench.energy.nvml.reading import CardWindow, Probed
from greenprune.bench.energy.nvml.visible import Gpu
from greenprune.bench.energy.source import Segment


def window(counter_j: float, power_j: float, *, limit_w: float | None = 400.0, covered: bool = True) -> CardWindow:
    """Ten seconds of a card whose counter is updated every 10 ms."""
    card = Probed(Gpu(0, "GPU-0", "Card"), "measured", 0.01, 0.2, limit_w, "instant", True, "", 0.06)
    start, end = NvmlMark(0.0, 0.0, 0.01), NvmlMark(10.0, counter_j, 0.01)
    noted = Stretch(power_j, None, 0.0 if covered else 9.0, power_j / 10, None)
    return CardWindow(card, [Segment(start, end, 10.0)], noted, period_s=0.01, state=None, sampled=True)


def test_a_counter_that_power_agrees_with_counts_and_its_bounds_are_its_period() -> None:
    reading, warnings = window(3000.0, 3010.0).read()
    assert reading.kind == "measured"
    assert reading.energy_j == 3000.0
    assert reading.low_j == pytest.approx(3000.0 - 0.01 * 301.0)
    assert reading.high_j == pytest.approx(3000.0 + 0.01 * 301.0)
    assert reading.sensor_error_j == pytest.approx(180.0)
    assert warnings == []


@pytest.mark.parametrize("limit_w", [400.0, 1000.0, 1400.0])
def test_a_counter_above_what_the_limit_allows_gives_way_to_power(limit_w) -> None:
    """Of cards with a limit of a kilowatt and more too."""
    most_j = 10 * limit_w
    reading, warnings = window(2 * most_j, 0.9 * most_j, limit_w=limit_w).read()
    assert reading.kind == "sampled"
    assert reading.energy_j == 0.9 * most_j
    assert reading.other_j == 2 * most_j
    assert "power limit" in warnings[0]


def test_without_a_limit_the_counter_is_believed_and_the_bounds_hold_both() -> None:
    reading, _ = window(8000.0, 3600.0, limit_w=None).read()
    assert reading.energy_j == 8000.0
    assert reading.low_j < 3600.0 < 8000.0 < reading.high_j


def test_a_reset_is_rescued_by_power_only_where_power_was_sampled() -> None:
    rescued = window(3000.0, 2990.0).rescued("the counter was reset")
    assert rescued is not None
    assert rescued[0].energy_j == 2990.0
    assert window(3000.0, 2990.0, covered=False).rescued("the counter was reset") is None


def test_a_counter_that_stood_still_is_never_zero() -> None:
    assert window(0.0, 3000.0).read()[0].energy_j == 3000.0
    reading, _ = window(0.0, 3000.0, covered=False).read()
    assert reading.energy_j is None
    assert not reading.valid
