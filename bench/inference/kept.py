"""Calibrations of a suite, kept in its results folder: what one run has measured serves all others on the same machine.

A calibration holds for one network, processor, version of torch, batch size and so on: its conditions. It lies in
`results/<suite>/calibrations/`, under a name that is made of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from greenprune.bench.energy.reading import Kind
from greenprune.bench.errors import UserError
from greenprune.bench.records.lock import holding
from greenprune.bench.records.stored import read_stored, write_stored
from greenprune.methods import CostTable
from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1
FOLDER = "calibrations"

Conditions = dict[str, str | int | float]


class Kept(BaseModel):
    """A calibration and what it holds for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    conditions: Conditions
    made_at: str  # ISO 8601, UTC
    energy_kind: Kind | None = None  # of the table's joules
    table: CostTable


def kept(suite: Path, conditions: Conditions, make: Callable[[], tuple[CostTable, Kind | None]]) -> Kept:
    """The calibration for these conditions: that of the suite, or what `make` measures, which is then kept.

    Runs that start at the same time wait for one another: one measures, undisturbed by the others' measuring.

    Args:
        suite: the results folder of the suite, results/<suite>.

    Raises:
        OSError: the folder cannot be written. Whatever `make` raises passes through.
    """
    folder = suite / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{named(conditions)}.json"
    with holding(folder / f".{path.stem}.lock"):
        try:
            found = read_stored(path, Kept, SCHEMA_VERSION, "a calibration") if path.exists() else None
        except UserError:  # damaged, or of another version: it is measured again
            found = None
        if found is None or found.conditions != conditions:
            table, energy_kind = make()
            now = datetime.now(UTC).isoformat(timespec="seconds")
            found = Kept(conditions=conditions, made_at=now, energy_kind=energy_kind, table=table)
            write_stored(found, path)
        return found


def named(conditions: Conditions) -> str:
    """The name of their file: "latency-eager-64-3f09...": kind, runtime, batch size and a hash of all."""
    digest = hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()
    return "-".join([*(str(conditions[key]) for key in ("kind", "batch_size") if key in conditions), digest[:12]])
