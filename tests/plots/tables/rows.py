"""Records as a comparison, and one row of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from greenprune.bench.records.record import Record
from greenprune.plots.frame.comparison import comparison
from greenprune.plots.frame.frame import Results
from greenprune.plots.frame.load import load

from tests.plots.records import store


def load_stored(folder: Path, *records: Record) -> Results:
    return load(store(folder, *records))


def row_of(results: Results, method: str, budget: float | None = None, *, valid: bool = True) -> dict[str, Any]:
    table = comparison(results)
    rows = table[(table["method"] == method) & (table["valid"] == valid)]
    (row,) = (rows if budget is None else rows[rows["budget"] == budget]).to_dict("records")
    return {str(name): value for name, value in row.items()}


def ends_of(row: dict[str, Any], name: str, *ends: str) -> list[float]:
    return [row[f"{name}_{end}"] for end in ends]
