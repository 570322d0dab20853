"""Single commands that `greenprune energy --json FILE` has measured: their files in, rows of the energy report out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened
from greenprune.bench.records.check import reading_wrong
from greenprune.bench.records.stored import first_not_finite, read_json, why_broken
from greenprune.bench.text import NOTHING, bounded, short, three_digits, told_count
from greenprune.plots.report.energy_rows import place_of_row, reading_of_command, rows_of_command
from pydantic import BaseModel, ConfigDict, Field, ValidationError

HEADINGS = ("Command", "Kind", "Duration, s", "Energy, kWh", "CO2e, g", "Grid", "Hardware", "PUE")


def load_commands(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The rows of all these files: one for each command and kind of energy.

    Raises:
        UserError: a file that cannot be read, or that `greenprune energy --json` has not written.
    """
    return [row for path in paths for row in _rows(path)]


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        stored = read_json(path)
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror or e})") from None
    except (ValueError, RecursionError) as e:
        raise UserError(f"{path}: its JSON is broken ({why_broken(e)}); allowed: {ALLOWED}") from None
    for key, kind in (("command", str), ("reading", dict)):
        if not isinstance(stored, dict) or not isinstance(stored.get(key), kind):
            raise UserError(f"{path}: has no {key}; allowed: {ALLOWED}")
    try:
        About.model_validate(stored)
    except ValidationError as e:
        raise UserError(f"{path}: {_where(e)}; allowed: {ALLOWED}") from None
    try:
        bad = first_not_finite(stored) or next(reading_wrong("reading", reading_of_command(stored)), None)
        if bad:
            raise UserError(f"{path}: {bad}; allowed: {ALLOWED}")
        return rows_of_command(stored)
    except ValidationError as e:
        raise UserError(f"{path}: reading.{_where(e)}; allowed: {ALLOWED}") from None
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        raise UserError(f"{path}: its readings are not what greenprune writes; allowed: {ALLOWED}") from None


class Hardware(BaseModel):
    """Of a file of a command, what the report shows of the machine."""

    model_config = ConfigDict(extra="ignore", strict=True)

    system: str | None = None
    python: str | None = None
    cores: int | None = None
    cpu: str | None = None
    gpu: str | None = None
    memory_gib: float | None = Field(None, allow_inf_nan=False)


class Grid(BaseModel):
    """And of its grid."""

    model_config = ConfigDict(extra="ignore", strict=True)

    country: str | None = None
    region: str | None = None
    cloud: Annotated[tuple[str, ...], Field(min_length=2, max_length=2, strict=False)] | None = None
    gco2e_per_kwh: float | None = Field(None, ge=0, allow_inf_nan=False)
    year: int | None = None
    source: str | None = None


class About(BaseModel):
    """And of the command itself; its reading is looked at apart."""

    model_config = ConfigDict(extra="ignore", strict=True)

    run_id: str | None = None
    ended_at: str | None = None
    exit_code: int | None = None
    version: str | None = None
    hardware: Hardware | None = None
    grid: Grid | None = None
    pue: float = Field(1.0, ge=1, allow_inf_nan=False)


def _where(e: ValidationError) -> str:
    """The first thing that is wrong, in words."""
    first = e.errors()[0]
    value = "" if isinstance(first["input"], dict | list) else f" = {shortened(str(first['input']))}"
    said = "is no object" if first["type"] == "model_type" else f"{first['msg'][:1].lower()}{first['msg'][1:]}"
    return f"{'.'.join(map(str, first['loc']))}{value}: {said}"


ALLOWED = "results folders, and files of `greenprune energy --json`"


def cells(row: dict[str, Any]) -> list[tuple[str, float | None]]:
    """A row for people, under `HEADINGS`: each cell's text, and the number it is sorted by."""
    kwh = bounded(row["energy_consumed"], row["energy_low_kwh"], row["energy_high_kwh"], short)
    grams = None if row["emissions"] is None else 1000 * row["emissions"]
    grid, source = row["grid_gco2e_per_kwh"], row["grid_source"]
    parts = (
        row["gpu_model"],
        row["cpu_model"],
        f"{told_count(row['cpu_count'], 'core')}" if row["cpu_count"] else None,
    )
    return [
        (row["command"], None),
        (row["kind"], None),
        (three_digits(row["duration"]), row["duration"]),
        (kwh, row["energy_consumed"]),
        (NOTHING, None) if grams is None else (short(grams), grams),
        (NOTHING if grid is None else f"{grid:.4g} g/kWh, {place_of_row(row)} ({source})", None),
        (", ".join(part for part in parts if part) or NOTHING, None),
        (f"{row['pue']:g}", row["pue"]),
    ]
