"""What the options say of a place, over what a suite says of its own."""

from __future__ import annotations

import argparse
from typing import Any

import pytest
from greenprune.bench.cli.place import at_place
from greenprune.bench.energy.carbon.intensity import grid_intensity
from greenprune.bench.errors import UserError
from greenprune.bench.suite.file import load_suite
from greenprune.bench.suite.measurement import Measurement
from greenprune.bench.suite.overrides import overrides_of


def placed(suite: dict[str, str], **options: Any) -> Measurement:
    """[measurement] of a suite that says `suite` of its place, with the options."""
    settings = [f"measurement.{key}={value}" for key, value in suite.items()]
    return at_place(load_suite("quickstart", overrides_of(settings)), argparse.Namespace(**options)).measurement


OWN = {"gco2e_per_kwh": "700", "pue": "1.5"}
POLAND, CANADA = {"country": "POL", **OWN}, {"country": "CAN", **OWN}
VIRGINIA = {"cloud": '["aws", "us-east-1"]', **OWN}


@pytest.mark.parametrize(
    ("suite", "options", "place"),
    [
        (POLAND, {"country": "FRA"}, {"country": "FRA"}),
        (POLAND, {"cloud": ["aws", "us-east-1"]}, {"cloud": ("aws", "us-east-1")}),
        (CANADA, {"region": "quebec"}, {"country": "CAN", "region": "quebec"}),
        (VIRGINIA, {"country": "FRA"}, {"country": "FRA"}),
        (VIRGINIA, {"country": "CAN", "region": "quebec"}, {"country": "CAN", "region": "quebec"}),
    ],
)
def test_another_place_has_not_the_suites_grams(suite, options, place) -> None:
    measurement = placed(suite, **options)
    assert measurement.grid() == grid_intensity(**place)
    assert measurement.pue == 1.5
    with_grams = placed(suite, **options, gco2e_per_kwh=20.0)
    assert with_grams.grid() == grid_intensity(**place, gco2e_per_kwh=20.0)


def test_grams_alone_are_of_the_suites_place() -> None:
    assert placed(VIRGINIA, gco2e_per_kwh=20.0).grid() == grid_intensity(cloud=("aws", "us-east-1"), gco2e_per_kwh=20.0)


def test_what_is_no_part_of_the_place_leaves_it() -> None:
    measurement = placed(POLAND, pue=1.2)
    assert (measurement.grid(), measurement.pue) == (grid_intensity("POL", gco2e_per_kwh=700.0), 1.2)


def test_a_region_alone_needs_the_suites_country() -> None:
    with pytest.raises(UserError, match=r"needs its country: CAN \(quebec\); allowed: both together"):
        placed(VIRGINIA, region="quebec")
