"""CO2 by country, against CodeCarbon's own files."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from greenprune.bench.energy.carbon.intensity import GridIntensity, check_country, gco2e, grid_intensity
from greenprune.bench.errors import UserError

DATA = Path(str(files("codecarbon"))) / "data" / "private_infra"
MIXES = json.loads((DATA / "global_energy_mix.json").read_text())


@pytest.mark.parametrize("code", ["FRA", "POL", "USA", "CHN", "NOR"])
def test_the_intensity_is_the_one_on_disk(code: str) -> None:
    found = grid_intensity(code)
    assert found.country == code
    assert found.gco2e_per_kwh == pytest.approx(MIXES[code]["carbon_intensity"], rel=1e-6)
    assert MIXES[code]["country_name"] in found.source
    assert str(MIXES[code]["year"]) in found.source
    assert "CodeCarbon 3" in found.source


def test_without_a_country_it_is_the_worlds_average_and_says_so() -> None:
    found = grid_intensity(None)
    average = json.loads((DATA / "carbon_intensity_per_source.json").read_text())["world_average"]
    assert found.gco2e_per_kwh == average
    assert found.country == "world"
    assert "world average" in found.source
    assert "no country was given" in found.source


def test_a_zero_in_the_table_is_not_passed_off_as_a_grid_without_emissions() -> None:
    zeros = [code for code, mix in MIXES.items() if mix["carbon_intensity"] == 0]
    for code in zeros:
        assert "rounded to nothing" in grid_intensity(code).source
    assert "rounded" not in grid_intensity("FRA").source


@pytest.mark.parametrize("given", ["FRA", "fra", " Fra "])
def test_a_code_is_taken_in_any_case(given: str) -> None:
    assert check_country(given) == "FRA"


@pytest.mark.parametrize(
    ("given", "near"),
    [("FRN", "FRA France"), ("Germany", "DEU Germany"), ("DE", "DEU Germany"), ("POLAND", "POL Poland"), ("", "")],
)
def test_an_unknown_country_is_refused_with_the_nearest(given: str, near: str) -> None:
    with pytest.raises(UserError) as caught:
        check_country(given)
    assert f'country = "{given}"' in str(caught.value)
    assert near in str(caught.value)
    with pytest.raises(UserError):
        grid_intensity(given)


def test_grams_are_kilowatt_hours_by_intensity() -> None:
    assert gco2e(3.6e6, GridIntensity("FRA", 56.0, "")) == pytest.approx(56.0)
    assert gco2e(900.0, GridIntensity("POL", 800.0, "")) == pytest.approx(0.2)


def test_the_network_is_never_used() -> None:
    code = """
import socket
def refuse(*_, **__):
    raise SystemExit("the network was used")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from greenprune.bench.energy.carbon.intensity import grid_intensity
print(grid_intensity("FRA").country, grid_intensity(None).country)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "FRA world", done.stderr
    assert hasattr(socket, "create_connection")  # that what is refused above exists
