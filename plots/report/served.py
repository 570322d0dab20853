"""What each network takes in the runtimes that its suite names, as a table of the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from greenprune.bench.energy.reading import KINDS
from greenprune.bench.records.inference import Inference, Served
from greenprune.bench.records.record import Record
from greenprune.bench.text import three_digits

TITLE = "In the runtime that serves"
COLUMNS = (
    ("run", None), ("runtime", None), ("precision", None), ("batch size", 1), ("ms for a batch", 1), ("time to dense", 1),
    ("95 % interval", None), ("J for 1,000 images", 1), ("joules to dense", 1), ("kind of joules", None), ("score", 1),
    ("note", None),
)  # fmt: skip
"""Heading, and whether a column is sorted by a number."""

Cell = tuple[str, float | None, bool]


def served_tables(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One table with a row for each run, runtime, precision and batch size; none where no run names a runtime.

    A cell is its text, what it is sorted by, and whether it is the best.
    """
    rows = [{"classes": [], "cells": cells} for record in records if record.served for cells in _rows(record)]
    columns = [{"heading": heading, "number": number} for heading, number in COLUMNS]
    return [{"title": TITLE, "columns": columns, "rows": rows}] if rows else []


def _rows(record: Record) -> Iterator[list[Cell]]:
    eager = Served(runtime="eager", precision="float32", inference=record.inference)
    for served in (eager, *record.served):
        precision = served.precision
        if served is eager:  # it is measured in the precision of the training
            precision = record.identity.precision or "–"  # type: ignore[assignment]
        names = [record.key, served.runtime, precision]
        if served.problem:
            blank: Cell = ("–", float("nan"), False)
            cells = [blank if number else ("–", None, False) for _, number in COLUMNS[3:-1]]
            yield [*((name, None, False) for name in names), *cells, (served.problem, None, False)]
        for part in served.inference:
            yield _row(names, part, served.test_score, record)


def _row(names: list[str], part: Inference, test_score: float | None, record: Record) -> list[Cell]:
    kind = next((kind for kind in KINDS if kind in part.energy_j_per_1000_images), None)
    joules = None if kind is None else part.energy_j_per_1000_images[kind][0]
    ratio = None if kind is None else part.energy_ratio.get(kind, (None,))[0]
    score = "–" if test_score is None or record.score is None else record.score.text(test_score)
    return [
        *((name, None, False) for name in names),
        (str(part.batch_size), part.batch_size, False),
        _number(part.latency.median_ms),
        _number(part.latency_ratio),
        (f"{part.latency_ratio_low:.3g} to {part.latency_ratio_high:.3g}", None, False),
        _number(joules),
        _number(ratio),
        (kind or "–", None, False),
        (score, float("nan") if test_score is None else test_score, False),
        ("", None, False),
    ]


def _number(value: float | None) -> Cell:
    return ("–", float("nan"), False) if value is None else (three_digits(value), value, False)
