"""Places smaller than a country, against CodeCarbon's own arithmetic; hints; what a user says himself."""

from __future__ import annotations

import pytest
from codecarbon.core.emissions import Emissions
from codecarbon.core.units import Energy
from codecarbon.external.geography import CloudMetadata, GeoMetadata
from codecarbon.input import DataSource
from greenprune.bench.energy.carbon.intensity import (
    GridIntensity,
    check_cloud,
    check_country,
    check_region,
    gco2e,
    grid_intensity,
    place,
)
from greenprune.bench.energy.carbon.regions import CLOUDS, cloud_regions, regions
from greenprune.bench.errors import UserError

KWH = Energy.from_energy(kWh=1.0)


@pytest.mark.parametrize(
    ("country", "region"),
    [("CAN", "quebec"), ("CAN", "alberta"), ("USA", "texas"), ("USA", "vermont"), ("SWE", "SE3"), ("NOR", "NO4"),
     ("FIN", "FI"), ("CHN", "beijing"), ("CHN", "inner mongolia")],
)  # fmt: skip
def test_a_region_has_codecarbons_figure(country: str, region: str) -> None:
    theirs_kg = Emissions(DataSource()).get_region_emissions(KWH, GeoMetadata(country, country, region))
    ours = grid_intensity(country, region)
    assert ours.gco2e_per_kwh == pytest.approx(1000 * theirs_kg, rel=1e-3)
    assert ours.gco2e_per_kwh != grid_intensity(country).gco2e_per_kwh or country == "FIN"
    assert (ours.country, ours.region) == (country, region)
    assert ours.year is not None
    assert str(ours.year) in ours.source


def test_quebec_is_not_canada() -> None:
    assert grid_intensity("CAN", "quebec").gco2e_per_kwh == pytest.approx(3.9, abs=0.05)
    assert grid_intensity("CAN").gco2e_per_kwh == pytest.approx(170, abs=1)


@pytest.mark.parametrize(
    ("country", "given", "name"),
    [("CAN", "Québec", "quebec"), ("CAN", "QC", "quebec"), ("CAN", "CA-QC", "quebec"), ("USA", "tx", "texas"),
     ("USA", "US-NY", "new york"), ("USA", "New-York", "new york"), ("CHN", "CN-BJ", "beijing"),
     ("CHN", "Guangdong Province", "guangdong"), ("SWE", "se3", "SE3")],
)  # fmt: skip
def test_a_region_has_many_names(country: str, given: str, name: str) -> None:
    assert check_region(country, given) == name


def test_every_region_has_a_believable_figure() -> None:
    assert len(regions()) > 100
    assert {region.country for region in regions()} == {"CAN", "CHN", "FIN", "NOR", "SWE", "USA"}
    assert all(0 <= region.gco2e_per_kwh < 1500 for region in regions())


@pytest.mark.parametrize("region", ["europe-west1", "us-central1", "northamerica-northeast1"])
def test_googles_regions_have_codecarbons_figures(region: str) -> None:
    theirs_kg = Emissions(DataSource()).get_cloud_emissions(KWH, CloudMetadata("gcp", region))
    ours = grid_intensity(cloud=("gcp", region))
    assert ours.gco2e_per_kwh == pytest.approx(1000 * theirs_kg)
    assert ours.cloud == ("gcp", region)


def test_other_clouds_regions_have_the_figure_of_where_they_stand() -> None:
    virginia = grid_intensity("USA", "virginia")
    found = grid_intensity(cloud=("aws", "us-east-1"))
    assert (found.gco2e_per_kwh, found.region, found.year) == (virginia.gco2e_per_kwh, "virginia", virginia.year)
    assert "where aws us-east-1 stands" in found.source
    assert grid_intensity(cloud=("Azure", "West Europe")).country == "NLD"
    for provider, at in CLOUDS.items():
        for name in at:
            assert grid_intensity(cloud=(provider, name)).gco2e_per_kwh >= 0
    assert len(cloud_regions()) > 100


@pytest.mark.parametrize(
    ("given", "said"),
    [("UK", "did you mean GBR United Kingdom?"), ("Germany", "did you mean DEU Germany?"), ("usa ", ""),
     ("quebec", 'country CAN with region "quebec"'), ("Québec", 'country CAN with region "quebec"'),
     ("texas", 'country USA with region "texas"'), ("Georgia", 'country USA with region "georgia", or GEO Georgia'),
     ("CH", "CHE Switzerland"), ("Holland", "NLD Netherlands"), ("SE3", "country SWE"), ("South Korea", "KOR"),
     ("CA", "CAN Canada")],
)  # fmt: skip
def test_a_hint_makes_sense(given: str, said: str) -> None:
    if not said:
        assert check_country(given) == "USA"
        return
    with pytest.raises(UserError) as caught:
        check_country(given)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"region": "quebec"}, "needs its country: CAN (quebec)"),
        ({"country": "FRA", "region": "bretagne"}, "has no regions of FRA; allowed with: CAN, CHN"),
        ({"country": "CAN", "region": "texas"}, "it is in USA (texas)"),
        ({"country": "CAN", "region": "quebeck"}, "nearest: quebec"),
        ({"cloud": ("aws", "us-east-9")}, "nearest: us-east-"),
        ({"cloud": ("ibm", "x")}, "allowed: aws, azure, gcp"),
        ({"country": "FRA", "cloud": ("aws", "us-east-1")}, "cloud stands for country and region"),
        ({"gco2e_per_kwh": -1.0}, "from 0 to 5000"),
        ({"gco2e_per_kwh": float("nan")}, "from 0 to 5000"),
    ],
)
def test_what_is_no_place_is_one_sentence(arguments, said: str) -> None:
    with pytest.raises(UserError) as caught:
        grid_intensity(**arguments)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cloud_is_taken_in_any_case() -> None:
    assert check_cloud("AWS", "US-East-1") == ("aws", "us-east-1")
    assert check_cloud("google", "europe-west1") == ("gcp", "europe-west1")


def test_a_users_own_figure_counts_and_says_whose_it_is() -> None:
    own = grid_intensity("FRA", gco2e_per_kwh=12.5)
    assert (own.gco2e_per_kwh, own.country, own.year) == (12.5, "FRA", None)
    assert "user" in own.source


def test_pue_is_in_the_grams() -> None:
    assert gco2e(3.6e6, GridIntensity("FRA", 50.0, ""), pue=1.5) == pytest.approx(75.0)


def test_a_place_in_few_words() -> None:
    assert place(grid_intensity("CAN", "quebec")) == "CAN, quebec"
    assert place(grid_intensity(cloud=("aws", "us-east-1"))) == "aws us-east-1 (USA, virginia)"
    assert place(grid_intensity(None)) == "world"


@pytest.mark.parametrize(
    ("given", "hint"),
    [("The Netherlands", "NLD Netherlands"), ("U.K.", "GBR"), ("Belgi\u00eb", "BEL"), ("Nederland", "NLD"),
     ("Korea, Republic of", "KOR"), ("us-east-1", "cloud aws us-east-1"), ("westeurope", "cloud azure westeurope"),
     ("europe-west4", "cloud gcp europe-west4"), ("EU", "no figure for EU; without a country the world's average"),
     ("world", "without a country the world's average"), ("California, USA", 'country USA with region "california"'),
     ("Georgia", "or GEO Georgia"), ("The Gambia", "GMB")],
)  # fmt: skip
def test_what_is_typed_as_a_country_leads_to_the_right_place(given: str, hint: str) -> None:
    with pytest.raises(UserError) as error:
        check_country(given)
    assert hint in str(error.value)
