"""Grids smaller than a country: provinces, states, bidding zones, and the regions of clouds.

CodeCarbon has figures for the states of the USA, the provinces of Canada and China, the bidding zones of Sweden, Norway and
Finland, and the regions of Google's cloud. The regions of other clouds are named by where they stand, as their operators
publish it (docs.aws.amazon.com, "AWS Regions"; learn.microsoft.com, "List of Azure regions"), and have the figure of
that state or country.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from dataclasses import dataclass, field
from functools import cache

from greenprune.bench.energy import codecarbon_data as data

G_PER_LB_MWH = 0.45359237  # a pound in a megawatt-hour is so many grams in a kilowatt-hour
CANADA_G_PER_KWH = {"coal": 995.725971, "petroleum": 816.6885263, "naturalGas": 743.8415916}
"""What CodeCarbon counts for a kilowatt-hour of each source in a Canadian mix; all others count nothing."""

_CANADA_CODES = {
    "alberta": "AB", "british columbia": "BC", "manitoba": "MB", "new brunswick": "NB",
    "newfoundland and labrador": "NL", "nova scotia": "NS", "northwest territories": "NT", "nunavut": "NU",
    "ontario": "ON", "prince edward island": "PE", "quebec": "QC", "saskatchewan": "SK", "yukon": "YT",
}  # fmt: skip
_NORDIC = {"SE": "SWE", "NO": "NOR", "FI": "FIN"}

CLOUDS: dict[str, dict[str, str]] = {
    "aws": {
        "af-south-1": "ZAF", "ap-east-1": "HKG", "ap-east-2": "TWN", "ap-northeast-1": "JPN", "ap-northeast-2": "KOR",
        "ap-northeast-3": "JPN", "ap-south-1": "IND", "ap-south-2": "IND", "ap-southeast-1": "SGP",
        "ap-southeast-2": "AUS", "ap-southeast-3": "IDN", "ap-southeast-4": "AUS", "ap-southeast-5": "MYS",
        "ap-southeast-6": "NZL", "ap-southeast-7": "THA", "ca-central-1": "CAN quebec", "ca-west-1": "CAN alberta",
        "cn-north-1": "CHN beijing", "cn-northwest-1": "CHN ningxia", "eu-central-1": "DEU", "eu-central-2": "CHE",
        "eu-north-1": "SWE SE3", "eu-south-1": "ITA", "eu-south-2": "ESP", "eu-west-1": "IRL", "eu-west-2": "GBR",
        "eu-west-3": "FRA", "il-central-1": "ISR", "me-central-1": "ARE", "me-south-1": "BHR", "mx-central-1": "MEX",
        "sa-east-1": "BRA", "us-east-1": "USA virginia", "us-east-2": "USA ohio", "us-gov-east-1": "USA ohio",
        "us-gov-west-1": "USA oregon", "us-west-1": "USA california", "us-west-2": "USA oregon",
    },
    "azure": {
        "australiacentral": "AUS", "australiaeast": "AUS", "australiasoutheast": "AUS", "austriaeast": "AUT",
        "brazilsouth": "BRA", "canadacentral": "CAN ontario", "canadaeast": "CAN quebec", "centralindia": "IND",
        "centralus": "USA iowa", "chilecentral": "CHL", "chinaeast": "CHN shanghai", "chinaeast2": "CHN shanghai",
        "chinanorth": "CHN beijing", "chinanorth2": "CHN beijing", "chinanorth3": "CHN hebei", "eastasia": "HKG",
        "eastus": "USA virginia", "eastus2": "USA virginia", "francecentral": "FRA", "francesouth": "FRA",
        "germanynorth": "DEU", "germanywestcentral": "DEU", "indonesiacentral": "IDN", "israelcentral": "ISR",
        "italynorth": "ITA", "japaneast": "JPN", "japanwest": "JPN", "koreacentral": "KOR", "koreasouth": "KOR",
        "malaysiawest": "MYS", "mexicocentral": "MEX", "newzealandnorth": "NZL", "northcentralus": "USA illinois",
        "northeurope": "IRL", "norwayeast": "NOR NO1", "norwaywest": "NOR NO2", "polandcentral": "POL",
        "qatarcentral": "QAT", "southafricanorth": "ZAF", "southafricawest": "ZAF", "southcentralus": "USA texas",
        "southeastasia": "SGP", "southindia": "IND", "spaincentral": "ESP", "swedencentral": "SWE SE3",
        "switzerlandnorth": "CHE", "switzerlandwest": "CHE", "uaecentral": "ARE", "uaenorth": "ARE", "uksouth": "GBR",
        "ukwest": "GBR", "westcentralus": "USA wyoming", "westeurope": "NLD", "westindia": "IND",
        "westus": "USA california", "westus2": "USA washington", "westus3": "USA arizona",
    },
}  # fmt: skip
"""Country, and state where CodeCarbon knows it, of the regions of clouds that CodeCarbon has no figures of."""

CLOUD_NAMES = {"amazon": "aws", "ec2": "aws", "google": "gcp", "gce": "gcp", "microsoft": "azure"}


@dataclass(frozen=True)
class Region:
    """A grid within a country."""

    country: str  # ISO 3166 alpha-3
    name: str
    gco2e_per_kwh: float
    year: int
    source: str  # who published it
    also: tuple[str, ...] = field(default=())  # other names of it


@dataclass(frozen=True)
class CloudRegion:
    """A data centre's region: with a figure of its own, or with the place whose figure it has."""

    provider: str
    name: str
    country: str
    region: str | None = None
    gco2e_per_kwh: float | None = None
    source: str = ""


def plain(name: str) -> str:
    """Lower case, without accents, dashes and what a kind of province is called: Québec is quebec."""
    bare = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().casefold()
    words = " ".join(re.sub(r"[-_/.,'()]", " ", bare).split())
    return re.sub(r" (autonomous region|municipality|province|state|sheng|shi|zizhiqu)$", "", words)


@cache
def regions() -> tuple[Region, ...]:
    """All of them, by country and name."""
    found = []
    usa = data.read_json(data.USA)
    about, year = usa["_source"]["name"], int(usa["_source"]["year"])
    for name, state in usa.items():
        if not name.startswith("_") and name != "usa":
            code = state["regionCode"]
            grams = state["emissions"] * G_PER_LB_MWH
            found.append(Region("USA", name, grams, year, about, (code, f"US-{code}")))
    for name, mix in data.read_json(data.CANADA).items():
        grams = sum(mix[source] / mix["total"] * factor for source, factor in CANADA_G_PER_KWH.items())
        code = _CANADA_CODES.get(name, "")
        also = (code, f"CA-{code}") if code else ()
        year = int(data.CANADA.split("/")[1])
        found.append(Region("CAN", name, grams, year, "mix of sources of the province", also))
    china = data.read_json(data.CHINA)
    for code, province in china["data"].items():
        name, *more = province["names"]
        about = "Ministry of Ecology and Environment of China, CO2 alone and without construction"
        also = (*more, code, code.removeprefix("CN-"))
        found.append(Region("CHN", name, province["emission_factor"], int(province["year"]), about, also))
    for code, zone in data.read_json(data.NORDIC)["data"].items():
        country = _NORDIC[code[:2]]
        about = f"{zone['description']}, mix of sources"
        found.append(Region(country, code, zone["emission_factor"], int(zone["year"]), about))
    return tuple(sorted(found, key=lambda region: (region.country, region.name)))


def find_regions(name: str, country: str | None = None) -> list[Region]:
    """Those of that name or code, in `country` if it is given. A name of two letters may be of several countries."""
    wanted = plain(name)
    return [
        region
        for region in regions()
        if country in (None, region.country) and wanted in {plain(one) for one in (region.name, *region.also)}
    ]


@cache
def cloud_regions() -> dict[tuple[str, str], CloudRegion]:
    """By provider and region, both in lower case."""
    found = {}
    for provider, places in CLOUDS.items():
        for name, place in places.items():
            country, _, region = place.partition(" ")
            found[provider, name] = CloudRegion(provider, name, country, region or None)
    with data.path_of(data.CLOUD).open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            provider, name = row["provider"].lower(), row["region"].replace("cenrtal", "central")  # a slip of 3.3.2
            about = f"{row['providerName']}, {row['city'] or row['state'] or row['country_name']} ({row['source']})"
            country = row["countryIsoCode"]
            found[provider, name] = CloudRegion(provider, name, country, None, float(row["impact"]), about)
    return found
