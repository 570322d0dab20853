"""CO2 equivalent of energy, by the grid of a country, from the data that CodeCarbon carries. Never uses the network."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from typing import Any

from greenprune.bench.errors import UserError

J_PER_KWH = 3.6e6


@dataclass(frozen=True)
class GridIntensity:
    """What a kilowatt-hour from the grid emits."""

    country: str  # ISO 3166 alpha-3, or "world"
    gco2e_per_kwh: float
    source: str  # for the record: which table, which year


def check_country(iso3: str) -> str:
    """The code in capitals, if CodeCarbon knows the country.

    Raises:
        UserError: it does not; the sentence names the nearest ones.
    """
    code = str(iso3).strip().upper()
    names = {code: str(mix["country_name"]) for code, mix in _energy_mixes().items()}
    if code in names:
        return code
    raise UserError(
        f'country = "{iso3}" is not an ISO 3166 alpha-3 code that CodeCarbon has data for '
        f"(nearest: {', '.join(f'{near} {names[near]}' for near in _nearest(code, names))})"
    )


def grid_intensity(country: str | None) -> GridIntensity:
    """Carbon intensity of the grid of a country, or the world's average when `country` is None.

    Takes about a second the first time. Raises UserError as `check_country` does.
    """
    import codecarbon
    from codecarbon.core.emissions import Emissions
    from codecarbon.core.units import Energy
    from codecarbon.external.geography import GeoMetadata
    from codecarbon.input import DataSource

    table = f"CodeCarbon {codecarbon.__version__}"
    data = DataSource()
    if country is None:
        average = float(data.get_carbon_intensity_per_source_data()["world_average"])
        return GridIntensity("world", average, f"{table}: world average, because no country was given")
    code = check_country(country)
    mix = _energy_mixes()[code]
    place = GeoMetadata(country_iso_code=code, country_name=mix["country_name"])
    kg_per_kwh = Emissions(data).get_country_emissions(Energy.from_energy(kWh=1.0), place)
    source = f"{table}: {mix['country_name']}, annual average of {mix['year']}"
    if kg_per_kwh == 0:
        source += "; it says 0 because the emissions of so small a grid are rounded to nothing there"
    return GridIntensity(code, round(kg_per_kwh * 1e3, 6), source)


def gco2e(energy_j: float, intensity: GridIntensity) -> float:
    """Grams of CO2 equivalent that `energy_j` joules from the grid emit."""
    return energy_j / J_PER_KWH * intensity.gco2e_per_kwh


@cache
def _energy_mixes() -> dict[str, dict[str, Any]]:
    from codecarbon.input import DataSource

    return DataSource().get_global_energy_mix_data()


def _nearest(wanted: str, names: dict[str, str]) -> list[str]:
    """Three codes whose country's name, or which themselves, look most like `wanted`."""

    def likeness(code: str) -> float:
        name = names[code].upper()
        alike = max(difflib.SequenceMatcher(None, wanted, other).ratio() for other in (code, name))
        return alike + (1.0 if name.startswith(wanted) or code.startswith(wanted) else 0.0)

    return sorted(names, key=lambda code: (-likeness(code), code))[:3]
