"""Rows of an energy report, as reporting asks for them: kWh, grams of CO2 equivalent, grid, place, hardware, PUE.

One row for each run, phase and kind of energy. Columns that CodeCarbon writes too have its names and units, so that a
row can stand in a table of its rows; kinds are never added up. Needs no pandas: `greenprune energy` writes rows too.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from greenprune.bench.energy.parts import part_of
from greenprune.bench.energy.reading import KINDS, Kind, Reading
from greenprune.bench.foreign import csv_cell

if TYPE_CHECKING:
    from greenprune.bench.records.record import Record

J_PER_KWH = 3.6e6
CODECARBON_COLUMNS = {
    "timestamp": "when it ended, ISO 8601; of a command that was cut short: when the row was saved",
    "project_name": "the suite, or command",
    "run_id": "the run within the suite; of a command a number that no other run of it has",
    "duration": "seconds",
    "emissions": "kilograms of CO2 equivalent",
    "emissions_rate": "kilograms of CO2 equivalent per second",
    "cpu_energy": "kilowatt-hours of the CPU; empty where this kind of energy has none of it",
    "gpu_energy": "kilowatt-hours of the GPUs, likewise",
    "ram_energy": "kilowatt-hours of the memory, likewise",
    "energy_consumed": "kilowatt-hours in all, PUE included",
    "country_iso_code": "ISO 3166 alpha-3 of the grid, or world",
    "region": "province, state or zone of the grid; empty where the figure is the country's",
    "cloud_provider": "whose data centre; empty where none was named",
    "cloud_region": "and which of them",
    "os": "operating system",
    "python_version": "version of Python",
    "cpu_count": "cores",
    "cpu_model": "name of the CPU",
    "gpu_model": "name of the GPU; empty where none was used",
    "ram_total_size": "gibibytes of memory",
    "pue": "power usage effectiveness that the figures include; 1: the machine alone, no cooling of a data centre",
}
OWN_COLUMNS = {
    "phase": "what was going on: training, evaluation, inference",
    "kind": "measured (a counter), sampled (power readings) or modelled (no sensor)",
    "energy_low_kwh": "lower bound of energy_consumed",
    "energy_high_kwh": "upper bound of energy_consumed",
    "grid_gco2e_per_kwh": "grams of CO2 equivalent per kilowatt-hour",
    "grid_year": "of which year it is; empty where its source does not say",
    "grid_source": "where that figure comes from",
    "greenprune_version": "version of greenprune",
    "command": "the command that was measured",
    "exit_code": "of a command that has ended, 128 + n after signal n; empty while it ran, and of the run of a suite",
    "missing": "sensors that are not in these figures, and why; empty: the figures are whole",
    "basis": "which figure of a source that has several counts, and why",
    "unit": "what was counted meanwhile, such as tokens; several are separated by semicolons, here and below",
    "unit_count": "how many of them",
    "j_per_unit": "joules for one of them, of the machine alone (without PUE)",
    "low_j_per_unit": "lower bound of j_per_unit",
    "high_j_per_unit": "upper bound of j_per_unit",
}
COLUMNS = CODECARBON_COLUMNS | OWN_COLUMNS
"""Every column of energy.csv and key of energy.json, with its meaning and unit."""


def rows_of_record(record: Record) -> list[dict[str, Any]]:
    """The energy report of one run: a row for each phase and kind that has a valid figure."""
    machine, versions, grid = record.machine, record.versions, record.emissions
    about = {
        "timestamp": record.finished_at,
        "project_name": record.suite,
        "run_id": record.key,
        **({} if grid is None else _grid_columns(grid.model_dump())),
        "os": machine.get("system") or machine.get("os"),
        "python_version": versions.get("python"),
        "cpu_count": machine.get("cores"),
        "cpu_model": machine.get("cpu"),
        "gpu_model": machine.get("gpu"),
        "ram_total_size": machine.get("memory_gib"),
        "greenprune_version": versions.get("greenprune"),
        "command": record.command,
    }
    pue = 1.0 if grid is None else grid.pue
    return [row for phase, reading in record.energy.items() for row in rows_of_reading(reading, phase, about, pue)]


def rows_of_command(stored: dict[str, Any]) -> list[dict[str, Any]]:
    """The same of a command, from the JSON that `greenprune energy --json FILE` writes."""
    grid, hardware = stored.get("grid") or {}, stored.get("hardware") or {}
    about = {
        "timestamp": stored.get("ended_at"),
        "project_name": "command",
        "run_id": stored.get("run_id"),
        "exit_code": stored.get("exit_code"),
        **_grid_columns(grid),
        "os": hardware.get("system"),
        "python_version": hardware.get("python"),
        "cpu_count": hardware.get("cores"),
        "cpu_model": hardware.get("cpu"),
        "gpu_model": hardware.get("gpu"),
        "ram_total_size": hardware.get("memory_gib"),
        "greenprune_version": stored.get("version"),
        "command": stored.get("command"),
    }
    pue = float(stored.get("pue", 1.0))
    return rows_of_reading(reading_of_command(stored), "command", about, pue, partial=True)


def reading_of_command(stored: dict[str, Any]) -> Reading:
    """The reading in such a file, without what a reading does not store. Raises ValidationError: it is none."""
    known = {"name", "kind", "energy_j", "low_j", "high_j", "valid", "reason", "note", "basis"}
    own = {name: value for name, value in stored["reading"].items() if name in Reading.model_fields}
    own["sources"] = [{n: v for n, v in source.items() if n in known} for source in own["sources"]]
    return Reading.model_validate(own)


def _grid_columns(grid: dict[str, Any]) -> dict[str, Any]:
    cloud = grid.get("cloud") or (None, None)
    return {
        "country_iso_code": grid.get("country"),
        "region": grid.get("region"),
        "cloud_provider": cloud[0],
        "cloud_region": cloud[1],
        "grid_gco2e_per_kwh": grid.get("gco2e_per_kwh", grid.get("grid_gco2e_per_kwh")),
        "grid_year": grid.get("year"),
        "grid_source": grid.get("source"),
    }


def rows_of_reading(
    reading: Reading, phase: str, about: dict[str, Any], pue: float, *, partial: bool = False
) -> list[dict[str, Any]]:
    """A row for each kind that `reading` has a valid figure of; `about` fills the columns that are not energy.

    `partial`: also of kinds that lack a sensor, which the column `missing` then names.
    """
    rows = []
    for kind in KINDS:
        total = reading.total(kind)
        if total is None or (reading.energy_j(kind) is None and not partial):
            continue
        energy_j, bounds_j = total.energy_j, (total.low_j, total.high_j)
        kwh, low_kwh, high_kwh = (joules * pue / J_PER_KWH for joules in (energy_j, *bounds_j))
        grid = about.get("grid_gco2e_per_kwh")
        emissions_kg = None if grid is None else kwh * grid / 1000
        found = {
            "phase": phase,
            "kind": kind,
            "duration": reading.duration_s,
            "energy_consumed": kwh,
            "energy_low_kwh": low_kwh,
            "energy_high_kwh": high_kwh,
            "emissions": emissions_kg,
            "emissions_rate": emissions_kg / reading.duration_s
            if emissions_kg is not None and reading.duration_s
            else None,
            "pue": pue,
            **{f"{part}_energy": _part_kwh(reading, kind, part, pue) for part in ("cpu", "gpu", "ram")},
            **_per_unit(reading, kind),
            "missing": "; ".join(f"{name}: {reason}" for name, reason in total.missing.items()) or None,
            "basis": "; ".join(f"{s.name}: {s.basis}" for s in reading.sources if s.kind == kind and s.basis) or None,
        }
        rows.append({name: (about | found).get(name) for name in COLUMNS})
    return rows


def _per_unit(reading: Reading, kind: Kind) -> dict[str, Any]:
    parts = [part.model_dump() for part in reading.per_unit(kind)]
    columns = {
        "unit": "unit",
        "unit_count": "count",
        **{name: name for name in ("j_per_unit", "low_j_per_unit", "high_j_per_unit")},
    }
    if len(parts) == 1:
        return {column: parts[0][name] for column, name in columns.items()}
    return {column: ";".join(str(part[name]) for part in parts) or None for column, name in columns.items()}


def _part_kwh(reading: Reading, kind: Kind, part: str, pue: float) -> float | None:
    joules = [
        s.energy_j for s in reading.sources if s.kind == kind and part_of(s.name) == part and s.energy_j is not None
    ]
    return sum(joules) * pue / J_PER_KWH if joules else None


def json_text(rows: Sequence[dict[str, Any]]) -> str:
    """With the meaning of every field, so that the file speaks for itself."""
    return json.dumps({"fields": COLUMNS, "rows": list(rows)}, indent=1, ensure_ascii=False) + "\n"


def place(country: str, region: str | None, cloud: Sequence[str] | None) -> str:
    """In few words: "CAN, quebec", "gcp europe-west1 (BEL)"."""
    within = country if region is None else f"{country}, {region}"
    return f"{' '.join(cloud)} ({within})" if cloud else within


def place_of_row(row: dict[str, Any]) -> str | None:
    """The same of a row; None where it names no country."""
    cloud = (row["cloud_provider"], row["cloud_region"]) if row["cloud_provider"] else None
    return place(row["country_iso_code"], row["region"], cloud) if row["country_iso_code"] else None


def csv_text(rows: Sequence[dict[str, Any]], header: bool = True) -> str:
    """`rows` as lines of a CSV file, with the names of the columns first if `header`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(COLUMNS), lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows({name: csv_cell(row.get(name)) for name in COLUMNS} for row in rows)
    return text.getvalue()
