"""CO2 equivalent of energy, by the grid it came from, from the data that CodeCarbon carries. Never uses the network."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from greenprune.bench.energy import codecarbon_data as data
from greenprune.bench.energy.carbon.regions import (
    CLOUD_NAMES,
    CloudRegion,
    Region,
    cloud_regions,
    find_regions,
    plain,
    regions,
)
from greenprune.bench.errors import UserError

J_PER_KWH = 3.6e6
OWN_FIGURE = "given by the user"

_ALSO_CALLED = {
    "uk": "GBR", "gb": "GBR", "great britain": "GBR", "britain": "GBR", "england": "GBR", "scotland": "GBR",
    "wales": "GBR", "northern ireland": "GBR", "us": "USA", "america": "USA", "united states of america": "USA",
    "u s a": "USA", "u s": "USA", "holland": "NLD", "korea": "KOR", "republic of korea": "KOR", "kr": "KOR",
    "russian federation": "RUS", "czech republic": "CZE", "cz": "CZE", "turkiye": "TUR", "tr": "TUR",
    "ivory coast": "CIV", "swaziland": "SWZ", "burma": "MMR", "macedonia": "MKD", "uae": "ARE", "emirates": "ARE",
    "drc": "COD", "viet nam": "VNM", "persia": "IRN", "ch": "CHE", "schweiz": "CHE", "suisse": "CHE", "svizzera": "CHE",
    "deutschland": "DEU", "de": "DEU", "allemagne": "DEU", "osterreich": "AUT", "at": "AUT", "espana": "ESP",
    "es": "ESP", "italia": "ITA", "frankreich": "FRA", "polska": "POL", "pl": "POL", "sverige": "SWE", "se": "SWE",
    "norge": "NOR", "danmark": "DNK", "dk": "DNK", "suomi": "FIN", "nippon": "JPN", "jp": "JPN", "cn": "CHN",
    "prc": "CHN", "brasil": "BRA", "ie": "IRL", "eire": "IRL", "pt": "PRT", "sk": "SVK", "si": "SVN", "ro": "ROU",
    "rs": "SRB", "hr": "HRV", "lv": "LVA", "lt": "LTU", "ee": "EST", "ua": "UKR", "za": "ZAF", "sg": "SGP",
    "hk": "HKG", "tw": "TWN", "au": "AUS", "nz": "NZL", "ca": "CAN", "mx": "MEX", "in": "IND", "id": "IDN",
    "my": "MYS", "ph": "PHL", "th": "THA", "il": "ISR", "sa": "SAU", "eg": "EGY", "ma": "MAR", "ke": "KEN", "ng": "NGA",
    "is": "ISL", "gr": "GRC", "el": "GRC", "hu": "HUN", "lu": "LUX", "nl": "NLD", "be": "BEL", "fr": "FRA", "it": "ITA",
    "nederland": "NLD", "belgique": "BEL", "belgie": "BEL", "belgien": "BEL", "luxemburg": "LUX", "hellas": "GRC",
    "magyarorszag": "HUN", "cesko": "CZE", "slovensko": "SVK", "slovenija": "SVN", "hrvatska": "HRV", "srbija": "SRB",
    "lietuva": "LTU", "latvija": "LVA", "eesti": "EST", "island": "ISL", "ukraina": "UKR", "rossiya": "RUS",
    "maroc": "MAR", "algerie": "DZA", "bosnia": "BIH", "trinidad": "TTO", "swiss": "CHE", "ksa": "SAU", "saudi": "SAU",
    "dubai": "ARE", "roc": "TWN", "u k": "GBR", "korea republic of": "KOR", "iran islamic republic of": "IRN",
    "bharat": "IND", "zhongguo": "CHN", "lao": "LAO", "moldova republic of": "MDA", "congo kinshasa": "COD",
    "no": "NOR", "fi": "FIN", "br": "BRA", "cl": "CHL", "ar": "ARG", "co": "COL", "pe": "PER", "ru": "RUS", "bg": "BGR",
}  # fmt: skip
"""Codes of two letters and common names that neither begin a country's name nor its code."""


_LARGER = {"world", "earth", "global", "eu", "europe", "european union", "asia", "africa", "america latina", "oceania"}


@dataclass(frozen=True)
class GridIntensity:
    """What a kilowatt-hour from the grid emits."""

    country: str  # ISO 3166 alpha-3, or "world"
    gco2e_per_kwh: float
    source: str  # for the record: which table, which year
    region: str | None = None  # None: the figure is the country's
    cloud: tuple[str, str] | None = None  # provider and region
    year: int | None = None  # None: the source does not say


def check_country(iso3: str) -> str:
    """The code in capitals, if CodeCarbon knows the country.

    Raises:
        UserError: it does not; the sentence names the country or region that was meant, or the nearest ones.
    """
    code = str(iso3).strip().upper()
    names = _names()
    if code in names:
        return code
    raise UserError(
        f'country = "{iso3}" is not an ISO 3166 alpha-3 code that CodeCarbon has data for ({_hint(str(iso3), names)})'
    )


def check_region(country: str | None, region: str) -> str:
    """The name of the province, state or zone as CodeCarbon has it.

    Raises:
        UserError: it knows none of that name in that country; the sentence says where it is, or the nearest.
    """
    if country is None:
        at = find_regions(region)
        where = " or ".join(f"{one.country} ({one.name})" for one in at)
        raise UserError(f'region = "{region}" needs its country{f": {where}" if at else ""}; allowed: both together')
    found = find_regions(region, country)
    if found:
        return found[0].name
    known = [one for one in regions() if one.country == country]
    if not known:
        countries = ", ".join(sorted({one.country for one in regions()}))
        raise UserError(f'region = "{region}": CodeCarbon has no regions of {country}; allowed with: {countries}')
    elsewhere = [f"{one.country} ({one.name})" for one in find_regions(region)]
    other = f", it is in {' or '.join(elsewhere)}" if elsewhere else ""
    raise UserError(
        f'region = "{region}" is none that CodeCarbon has data for in {country}{other}; '
        f"nearest: {', '.join(_alike(region, [one.name for one in known]))}"
    )


def check_cloud(provider: str, region: str) -> tuple[str, str]:
    """Provider and region in lower case, if they are known.

    Raises:
        UserError: they are not; the sentence names the nearest.
    """
    known = cloud_regions()
    name = provider.strip().lower()
    name = CLOUD_NAMES.get(name, name)
    providers = sorted({one for one, _ in known})
    if name not in providers:
        raise UserError(f'cloud = "{provider}" is not known; allowed: {", ".join(providers)}')
    key = (name, region.strip().lower())
    if name == "azure":
        key = (name, plain(region).replace(" ", ""))
    if key not in known:
        near = _alike(key[1], [one for its, one in known if its == name])
        raise UserError(f'cloud = "{provider} {region}": {name} has no such region here; nearest: {", ".join(near)}')
    return key


def check_gco2e_per_kwh(value: float) -> float:
    """Raises UserError for what no grid emits."""
    if not 0 <= value <= 5000:
        raise UserError(f"gco2e_per_kwh = {value:g}: allowed is a number of grams from 0 to 5000")
    return float(value)


def check_pue(value: float) -> float:
    """Raises UserError for less than 1: a data centre draws at least what its machines draw."""
    if not 1 <= value <= 10:
        raise UserError(f"pue = {value:g}: allowed is a number from 1 (the machine alone) to 10")
    return float(value)


def grid_intensity(
    country: str | None = None,
    region: str | None = None,
    cloud: tuple[str, str] | None = None,
    gco2e_per_kwh: float | None = None,
) -> GridIntensity:
    """Carbon intensity of the grid of a place; the world's average where none is named.

    Args:
        country: ISO 3166 alpha-3.
        region: province, state or bidding zone within it.
        cloud: provider and region instead, such as ("aws", "us-east-1").
        gco2e_per_kwh: the figure itself, of whoever knows better; the place is then a name alone.

    Raises:
        UserError: as `check_country`, `check_region`, `check_cloud`; or a cloud and a country are both given.
    """
    if cloud is not None and (country is not None or region is not None):
        raise UserError("cloud stands for country and region: allowed is one or the other")
    at = cloud_regions()[check_cloud(*cloud)] if cloud is not None else None
    if at is not None:
        country, region = at.country, at.region
    code = check_country(country) if country is not None else None
    within = check_region(code, region) if region is not None else None
    key = (at.provider, at.name) if at is not None else None
    if gco2e_per_kwh is not None:
        return GridIntensity(code or "world", check_gco2e_per_kwh(gco2e_per_kwh), OWN_FIGURE, within, key)
    if at is not None and at.gco2e_per_kwh is not None:
        source = f"{data.title()}: {at.source}; the table names no year"
        return GridIntensity(at.country, at.gco2e_per_kwh, source, None, key)
    if code is None:
        return _world()
    found = _country(code) if within is None else _region(find_regions(within, code)[0])
    return found if at is None else _of_cloud(found, at)


def gco2e(energy_j: float, intensity: GridIntensity, pue: float = 1.0) -> float:
    """Grams of CO2 equivalent that `energy_j` joules of a machine emit, with what the data centre adds to them."""
    return energy_j * pue / J_PER_KWH * intensity.gco2e_per_kwh


def place(intensity: GridIntensity) -> str:
    """In few words: "CAN, quebec", "gcp europe-west1 (BEL)"."""
    within = intensity.country if intensity.region is None else f"{intensity.country}, {intensity.region}"
    return f"{' '.join(intensity.cloud)} ({within})" if intensity.cloud else within


def _world() -> GridIntensity:
    table = data.read_json(data.PER_SOURCE)
    source = f"{data.title()}: world average of 2018 ({table['world_average_source']}), because no country was given"
    return GridIntensity("world", float(table["world_average"]), source, year=2018)


def _country(code: str) -> GridIntensity:
    mix = data.read_json(data.GLOBAL_MIX)[code]
    year = int(mix["year"])
    source = f"{data.title()}: {mix['country_name']}, annual average of {year}"
    if mix["carbon_intensity"] == 0:
        source += "; it says 0 because the emissions of so small a grid are rounded to nothing there"
    return GridIntensity(code, float(mix["carbon_intensity"]), source, year=year)


def _region(region: Region) -> GridIntensity:
    source = f"{data.title()}: {region.country}, {region.name}, {region.year} ({region.source})"
    return GridIntensity(region.country, round(region.gco2e_per_kwh, 6), source, region.name, year=region.year)


def _of_cloud(grid: GridIntensity, at: CloudRegion) -> GridIntensity:
    source = f"{grid.source}, where {at.provider} {at.name} stands"
    return GridIntensity(grid.country, grid.gco2e_per_kwh, source, grid.region, (at.provider, at.name), grid.year)


def _names() -> dict[str, str]:
    return {code: str(mix["country_name"]) for code, mix in data.read_json(data.GLOBAL_MIX).items()}


def _hint(given: str, names: dict[str, str]) -> str:
    wanted = plain(given).removeprefix("the ")
    if wanted in _LARGER:
        return f"there is no figure for {given.strip()}; without a country the world's average is taken"
    cloud = next((f"{provider} {name}" for provider, name in cloud_regions() if name == given.strip().lower()), None)
    if cloud is not None:
        return f"did you mean cloud {cloud}?"
    meant = _ALSO_CALLED.get(wanted)
    if meant is None:
        meant = next((code for code, name in names.items() if wanted and plain(name) == wanted), None)
    at = find_regions(given) or find_regions(given.partition(",")[0])
    if at and (meant is None or len(wanted) > 2):
        where = " or ".join(f'country {one.country} with region "{one.name}"' for one in at)
        also = f", or {meant} {names[meant]}" if meant else ""
        return f"did you mean {where}{also}?"
    if meant is not None:
        return f"did you mean {meant} {names[meant]}?"
    return f"nearest: {', '.join(f'{near} {names[near]}' for near in _nearest(given.strip().upper(), names))}"


def _nearest(wanted: str, names: dict[str, str]) -> list[str]:
    """Three codes whose country's name, or which themselves, look most like `wanted`."""

    def likeness(code: str) -> float:
        name = names[code].upper()
        alike = max(difflib.SequenceMatcher(None, wanted, other).ratio() for other in (code, name))
        return alike + (1.0 if name.startswith(wanted) or code.startswith(wanted) else 0.0)

    return sorted(names, key=lambda code: (-likeness(code), code))[:3]


def _alike(wanted: str, names: list[str]) -> list[str]:
    return difflib.get_close_matches(plain(wanted), names, n=3, cutoff=0.0)
