"""A static site of several suites: a page for each, their records as JSON, and one table of all that was measured.

    site/index.html                      the table: data set x network x budget
    site/index.json                      the same for programs
    site/<suite>/index.html              the report of a suite, with its tables and figures beside it
    site/<suite>/records/<run>.json      every record, as it was stored

Names come from suites and runs, so that a link to one stays what it is.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from greenprune.bench.energy.reading import KINDS
from greenprune.bench.errors import UserError
from greenprune.bench.records.record import RECORD_FILE
from greenprune.bench.records.score import decimals_of, figure_text
from greenprune.bench.records.stored import write_atomically
from greenprune.bench.text import NOTHING, bounded, signed
from greenprune.plots.frame.comparison import (
    REFERENCE,
    batch_label,
    budget_in_words,
    comparison,
    mean_interval,
    reading_order,
    rows_of,
)
from greenprune.plots.frame.frame import Results
from greenprune.plots.frame.load import load
from greenprune.plots.frame.problems import unreadable
from greenprune.plots.report.names import own_file_name, record_file, section_names
from greenprune.plots.report.page import render_index
from greenprune.plots.report.report import write_report

INDEX = "index.html"

AS_THEY_ARE = ("suite", "view", "dataset", "budget", "budget_cost", "method", "valid", "runs", "score", "machine")
"""Columns of a `comparison` that a row of the index has too."""


def publish(folders: Sequence[Path], site: Path) -> tuple[list[Path], list[str]]:
    """Write the site of the suites in `folders` into `site`.

    A folder of results may hold one suite or several. What `site` holds of a suite is replaced, other files stay.

    Returns:
        The pages, and a sentence for each file that could not be read; the pages say so too.

    Raises:
        UserError: no records, or none of a suite can be read; two suites of one name, or `site` cannot be written.
    """
    suites = _suites(folders)
    names = {folder: own_file_name(folder.resolve().name) for folder in suites}
    for one, other in pairwise(sorted(suites, key=lambda folder: names[folder])):
        if names[one] == names[other]:
            raise UserError(
                f"{one} and {other}: both would be {site / names[one]}; publish them from folders of other names"
            )
    pages: list[Path] = []
    rows: list[dict[str, Any]] = []
    bad: list[str] = []
    try:
        for folder in suites:
            results = load(folder)
            own = unreadable(results.problems)
            if own and not results.records:
                raise UserError("\n".join(own))
            bad += own
            pages.append(_suite(folder, results, site / names[folder]))
            rows += _rows(results, names[folder])
        rows.sort(key=_place)
        write_atomically(
            site / "index.json", json.dumps({"rows": rows}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        )
        pages.insert(0, write_atomically(site / INDEX, render_index(rows)))
    except OSError as e:
        raise UserError(f"{site}: the site cannot be written ({e.strerror or e})") from None
    return pages, bad


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    """Within a comparison dense comes first, then budget by budget."""
    among = tuple(row[name] for name in ("dataset", "network", "folder", "suite", "machine", "view"))
    return *among, not row["reference"], row["budget_cost"], row["budget"], row["method"]


def _suites(folders: Sequence[Path]) -> list[Path]:
    """Folders of single suites: those given, and of a folder of suites each one within."""
    found: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such results folder")
        inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and any(path.glob(f"*/{RECORD_FILE}"))]
        own = any(folder.glob(f"*/{RECORD_FILE}"))
        if not own and not inside:
            raise UserError(f"{folder}: holds no records (looked for <suite>/<run>/{RECORD_FILE})")
        found |= dict.fromkeys([folder] if own else inside)
    return list(found)


def _suite(folder: Path, results: Results, place: Path) -> Path:
    """The page of one suite, its tables and figures, and its records, in `place`."""
    records = place / "records"
    if records.is_dir() and not records.is_symlink():
        shutil.rmtree(records)  # of runs that are no more
    records.mkdir(parents=True)
    for record, run in zip(results.records, results.places, strict=True):
        shutil.copyfile(run / RECORD_FILE, records / record_file(record.key))
    return write_report(results, place, page=INDEX, records="records/")[-1]


def _rows(results: Results, suite: str) -> list[dict[str, Any]]:
    """A row for each method and budget of each comparison, as text for people, and with links."""
    rows: list[dict[str, Any]] = []
    parts = results.comparisons()
    linked: set[str] = set()
    for name, part in zip(section_names(parts), parts, strict=True):
        table = comparison(part)
        # A key is a run's own for good, the name of a comparison may depend on the others: told where a run is in several.
        address = {key: {"part": name} if key in linked else {} for key in part.runs["key"]}
        linked |= address.keys()
        for row in rows_of(reading_order(table)):
            same = (part.runs["method"] == row["method"]) & (part.runs["budget"] == row["budget"])
            places = part.runs.index[same & (part.runs["valid"] == row["valid"])]
            records = sorted((part.records[i] for i in places), key=lambda record: record.seed)
            dense = row["method_name"] == REFERENCE
            joules = [(kind, f"large_batch_energy_ratio_{kind}") for kind in KINDS]
            kind, energy = next((each for each in joules if math.isfinite(row[f"{each[1]}_mean"])), joules[0])
            mean = row["test_score_mean"]
            rows.append(
                {name: row[name] for name in AS_THEY_ARE}
                | {
                    "folder": suite,
                    "network": row["model"],
                    "reference": dense,
                    "budget_text": "dense" if dense else budget_in_words(row["budget_cost"], row["budget"], records),
                    "score_text": figure_text(mean, row["score"]) if math.isfinite(mean) else NOTHING,
                    "difference_text": _difference(row),
                    "time_text": _ratio(row, "large_batch_latency_ratio"),
                    "energy_text": _ratio(row, energy, kind),
                    "figures": {
                        "score": _known(mean),
                        "difference": None if dense else _known(row["difference_to_dense_mean"]),
                        "energy_ratio": _known(row[f"{energy}_mean"]),
                        "time_ratio": _known(row["large_batch_latency_ratio_mean"]),
                    },
                    "at": batch_label("large_batch", table),
                    "date": max((record.finished_at[:10] for record in records), default=""),
                    "version": ", ".join(sorted({record.versions.get("greenprune", "unknown") for record in records})),
                    "page": f"{suite}/{INDEX}",
                    "records": [
                        {
                            "seed": record.seed,
                            "page": f"{suite}/{INDEX}#{urlencode(address[record.key] | {'run': record.key})}",
                            "json": f"{suite}/records/{record_file(record.key)}",
                        }
                        for record in records
                    ],
                    "commands": list(dict.fromkeys(record.command for record in records if record.command)),
                }
            )
    return rows


def _known(figure: float) -> float | None:
    return figure if math.isfinite(figure) else None


def _difference(row: dict[str, Any]) -> str:
    """Against the dense network, with the 95 % interval."""
    if row["method_name"] == REFERENCE or not row["pairs"]:
        return NOTHING
    mean, low, high = (row[f"difference_to_dense_{end}"] for end in ("mean", "low", "high"))
    decimals = decimals_of(row["test_score_mean"], row["score"])
    return bounded(mean, low, high, lambda value: signed(value, decimals))


def _ratio(row: dict[str, Any], name: str, kind: str = "") -> str:
    text = bounded(*mean_interval(row, name), lambda ratio: f"{ratio:.2f}")
    return f"{text} ({kind})" if kind and text != NOTHING else text
