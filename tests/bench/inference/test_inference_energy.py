"""The energy ratio of two networks measured side by side, against numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from greenprune.bench.energy.reading import Kind, Reading, SourceReading
from greenprune.bench.inference.pair import energy_ratios


def _block(joules: float | None, kind: Kind = "modelled", name: str = "cpu") -> SourceReading:
    return SourceReading(name=name, kind=kind, energy_j=joules, valid=joules is not None)


def _blocks(joules: Sequence[float | None], kind: Kind = "modelled") -> list[Reading]:
    return [Reading(name="inference", duration_s=0.25, sources=(_block(j, kind),)) for j in joules]


def test_joules_are_divided_by_the_images_of_each_side() -> None:
    """20 J for 200 images against 10 J for 50: half the joules per image, though twice the joules per block."""
    found = energy_ratios(_blocks([20] * 5), _blocks([10] * 5), images_per_block=200, dense_images_per_block=50)
    assert found == {"modelled": pytest.approx((0.5, 0.5, 0.5))}


def test_the_ratio_is_the_geometric_mean_of_pairs_and_lies_in_its_interval() -> None:
    """Noise that both blocks of a pair share leaves the interval; noise within pairs widens it."""
    shared = [1.0, 10.0, 3.0, 0.5, 2.0]
    dense = _blocks([4 * s for s in shared])
    alike = energy_ratios(_blocks(shared), dense, images_per_block=8, dense_images_per_block=8)
    assert alike["modelled"] == pytest.approx((0.25, 0.25, 0.25))
    factors = [0.5, 2.0, 1.0, 4.0, 0.25]  # their geometric mean is 1
    noisy = _blocks([s * f for s, f in zip(shared, factors, strict=True)])
    ratio, low, high = energy_ratios(noisy, dense, images_per_block=8, dense_images_per_block=8)["modelled"]
    assert ratio == pytest.approx(0.25)
    # standard error of the mean of the logs: ln 2 * sqrt(sum(1, 1, 0, 4, 4) / 4 / 5); 2.776 is Student's t of 5 pairs
    error = math.log(2) * math.sqrt(10 / 4 / 5)
    assert math.log(high / ratio) == pytest.approx(2.776 * error, rel=1e-3)
    assert math.log(ratio / low) == pytest.approx(2.776 * error, rel=1e-3)


@pytest.mark.parametrize("bad", [None, 0.0])
@pytest.mark.parametrize("side", [0, 1])
def test_a_kind_with_an_invalid_or_empty_block_is_left_out_and_others_stay(bad: float | None, side: int) -> None:
    sides = []
    for i in range(2):
        measured = [3.0, bad if i == side else 3.0, 3.0]
        sides.append(
            [
                Reading(name="inference", duration_s=5, sources=(_block(j, "measured", "nvml:0"), _block(6.0)))
                for j in measured
            ]
        )
    found = energy_ratios(*sides, images_per_block=10, dense_images_per_block=10)
    assert found == {"modelled": pytest.approx((1, 1, 1))}


def test_a_source_that_comes_and_goes_gives_no_ratio() -> None:
    with_ram = Reading(name="inference", duration_s=1, sources=(_block(6.0), _block(1.0, name="ram")))
    without = Reading(name="inference", duration_s=1, sources=(_block(6.0),))
    sides = [with_ram, without, with_ram], [with_ram, with_ram, with_ram]
    assert energy_ratios(*sides, images_per_block=1, dense_images_per_block=1) == {}
