"""Where the energy comes from: the options that `energy`, `run`, `plan`, `tune` and others share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from greenprune.bench.energy.carbon.intensity import (
    GridIntensity,
    check_cloud,
    check_country,
    check_gco2e_per_kwh,
    check_pue,
    check_region,
    grid_intensity,
)

if TYPE_CHECKING:
    from greenprune.bench.suite.suite import Suite

LONGEST_IDLE_S = 86_400.0
"""For which idle power may be measured."""

PLACE_KEYS = ("country", "region", "cloud", "gco2e_per_kwh")


def place_arguments(command: argparse.ArgumentParser, *, pue: bool = True) -> None:
    """Also keys of a suite's [measurement]; what the command line says takes the place of what the suite says."""
    command.add_argument("--country", metavar="ISO3", help="whose grid intensity to use for CO2, e.g. FRA")
    command.add_argument("--region", metavar="NAME", help="province, state or zone in it, e.g. quebec with CAN")
    command.add_argument(
        "--cloud", nargs=2, metavar=("PROVIDER", "REGION"), help="a cloud's region instead, e.g. aws us-east-1"
    )
    command.add_argument(
        "--gco2e-per-kwh", type=float, metavar="G", help="your own figure of the grid, in grams of CO2e per kWh"
    )
    if pue:
        command.add_argument(
            "--pue",
            type=float,
            metavar="X",
            help="power usage effectiveness of the data centre, which CO2e and kWh in reports then include (1)",
        )


def place_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the options say, by key of a suite's [measurement], checked; without those that were not given.

    Raises:
        UserError: a place that is not known, or two that exclude each other.
    """
    said: dict[str, Any] = {name: getattr(arguments, name, None) for name in (*PLACE_KEYS, "pue")}
    said = {name: value for name, value in said.items() if value is not None}
    if "country" in said:
        said["country"] = check_country(said["country"])
    if "region" in said and "country" in said:
        said["region"] = check_region(said["country"], said["region"])
    if "cloud" in said:
        said["cloud"] = check_cloud(*said["cloud"])
    if "gco2e_per_kwh" in said:
        check_gco2e_per_kwh(said["gco2e_per_kwh"])
    if "pue" in said:
        check_pue(said["pue"])
    return said


def at_place(suite: Suite, arguments: argparse.Namespace) -> Suite:
    """The suite with what the options say of the place. Raises UserError as `place_of`.

    A place that is named here stands for the suite's whole place, with the grams that the suite states of it; a region
    alone is one of the suite's country. What the suite states of the data centre, its PUE, stays.
    """
    said = place_of(arguments)
    if not said:
        return suite
    if "country" in said or "cloud" in said:
        said = {"country": None, "region": None, "cloud": None, "gco2e_per_kwh": None} | said
    elif "region" in said:
        said = {"cloud": None, "gco2e_per_kwh": None} | said
    measurement = suite.measurement.model_copy(update=said)
    measurement.grid()
    return suite.model_copy(update={"measurement": measurement})


def intensity_of(arguments: argparse.Namespace) -> GridIntensity:
    """The grid that the options name. Raises UserError as `place_of`."""
    return grid_intensity(**{name: value for name, value in place_of(arguments).items() if name != "pue"})
