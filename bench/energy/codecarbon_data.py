"""The files of figures that CodeCarbon carries, read without importing it, which would take a second."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

GLOBAL_MIX = "private_infra/global_energy_mix.json"
PER_SOURCE = "private_infra/carbon_intensity_per_source.json"
USA = "private_infra/2023/usa_emissions.json"
CANADA = "private_infra/2023/canada_energy_mix.json"
CHINA = "private_infra/2023/china_provincial_emissions.json"
NORDIC = "private_infra/nordic_emissions.json"
CLOUD = "cloud/impact.csv"
PROCESSORS = "hardware/cpu_power.csv"


def path_of(name: str) -> Path:
    """Where one of the files above lies. Raises ModuleNotFoundError without CodeCarbon."""
    found = importlib.util.find_spec("codecarbon")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'codecarbon'")
    return Path(found.submodule_search_locations[0]) / "data" / name


@cache
def read_json(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path_of(name).read_text(encoding="utf-8"))
    return data


@cache
def title() -> str:
    """What figures from these files are attributed to."""
    return f"CodeCarbon {importlib.metadata.version('codecarbon')}"
