"""The report: tables, figures and one self-contained HTML page, from records alone.

load -> write_tables          table.csv, table.md
     -> draw, render          figures/*.png, figures/*.svg
     -> page (report.html)    report.html
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from bench.errors import UserError
from bench.record import write_atomically
from plots.checks import check
from plots.comparison import comparison, rows_of
from plots.figures import FIGURES, render
from plots.frame import KINDS, Results, load
from plots.problems import Problem
from plots.summary import sentences
from plots.tables import GROUPS, legend, readable, write_tables

KIND_MEANINGS = {
    "measured": "read from an energy counter of the hardware (NVML, RAPL)",
    "sampled": "power readings of the hardware, integrated over time",
    "modelled": "no sensor: CPU time and memory of the process, times assumed watts; the bounds are the assumptions'",
}


@dataclass(frozen=True)
class Picture:
    """A drawn figure, ready for a page."""

    path: Path  # of the SVG file
    title: str
    words: str
    caption: str
    svg: bytes

    @property
    def data_uri(self) -> str:
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode("ascii")


def write_report(results_folders: Path | Sequence[Path], out: Path) -> list[Path]:
    """Write table.csv, table.md, figures/*.png, figures/*.svg and report.html into `out`; returns their paths.

    Each file is replaced atomically. The same records give the same files.

    Raises:
        UserError: no records, or `out` cannot be written.
    """
    results = load(results_folders)
    parts = results.comparisons()
    try:
        written = write_tables(results, out) if parts else []
        sections = []
        for name, part in zip(_section_names(parts), parts, strict=True):
            table = comparison(part)
            pictures, paths = _write_figures(part, out / "figures", f"{name}-" if len(parts) > 1 else "")
            written += paths
            sections.append(_section(part, table, name, pictures))
        problems = grouped((*results.problems, *check(results)))
        written.append(write_atomically(out / "report.html", page(sections, problems)))
    except OSError as e:
        raise UserError(f"{out}: the report cannot be written ({e.strerror})") from None
    return written


def page(sections: Sequence[dict[str, Any]], problems: Sequence[dict[str, Any]]) -> str:
    """The HTML page; everything in it is escaped unless the template says otherwise."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("report.html").render(sections=sections, problems=problems)


def grouped(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """Problems that say the same, together: kind, what, remedy and the places where they occur."""
    places: dict[tuple[str, str, str], list[str]] = {}
    for problem in problems:
        places.setdefault((problem.kind, problem.what, problem.remedy), []).append(problem.where)
    return [
        {"kind": kind, "what": what, "remedy": remedy, "where": list(dict.fromkeys(where))}
        for (kind, what, remedy), where in places.items()
    ]


def _write_figures(part: Results, folder: Path, prefix: str) -> tuple[list[Picture], list[Path]]:
    pictures, paths = [], []
    for spec in (spec for spec in FIGURES if spec.applies(part)):
        figure = spec.draw(part)
        svg = render(figure, "svg")
        stem = folder / f"{prefix}{spec.name}"
        paths.append(_write_bytes_atomically(stem.with_name(f"{stem.name}.png"), render(figure, "png")))
        paths.append(_write_bytes_atomically(stem.with_name(f"{stem.name}.svg"), svg))
        pictures.append(Picture(paths[-1], spec.title, spec.describe(part), spec.caption, svg))
    return pictures, paths


def _section(part: Results, table: pd.DataFrame, name: str, pictures: Sequence[Picture]) -> dict[str, Any]:
    """What the template needs for one comparison."""
    return {
        "name": name,
        "suite": part.runs["suite"].iloc[0],
        "machine": part.runs["machine"].iloc[0],
        "sentences": sentences(part, table),
        "tables": _tables(table),
        "legend": legend(table),
        "pictures": pictures,
        "sources": _sources(part),
        "emissions": list(dict.fromkeys(_emissions(part))),
        "facts": _facts(part),
        "commands": list(dict.fromkeys(record.command for record in part.records if record.command)),
    }


def _tables(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The readable table in groups of columns that fit on a page; a cell is its text and what it is sorted by."""
    tables = []
    for group in GROUPS:
        columns = [column for column in readable(table) if column.group in ("", group)]
        rows = [
            {
                "valid": row["valid"],
                "cells": [(c.text(row), None if c.number is None else row[c.number]) for c in columns],
            }
            for row in rows_of(table)
        ]
        if any(column.group == group for column in columns):
            tables.append({"title": group, "columns": columns, "rows": rows})
    return tables


def _sources(part: Results) -> list[dict[str, str]]:
    """Where joules come from: each source once, with the note of the first run that has it as an example."""
    sources: dict[tuple[str, str], dict[str, str]] = {}
    for record in part.records:
        for reading in record.energy.values():
            for source in reading.sources:
                note = f"{source.note} (in {record.key})" if source.note else ""
                about = {"name": source.name, "kind": source.kind, "meaning": KIND_MEANINGS[source.kind], "note": note}
                sources.setdefault((source.name, source.kind), about)
    return sorted(sources.values(), key=lambda source: (KINDS.index(source["kind"]), source["name"]))


def _emissions(part: Results) -> Iterable[str]:
    for record in part.records:
        if record.emissions:
            about = record.emissions
            yield f"{about.grid_gco2e_per_kwh:g} g CO2e per kWh in {about.country}, from {about.source}"


def _facts(part: Results) -> list[tuple[str, str]]:
    """Machine and versions: every value that occurs, so that a mixture shows."""
    facts: dict[str, dict[str, None]] = {}
    for record in part.records:
        for name, value in {**record.machine, **record.versions}.items():
            facts.setdefault(name, {})[str(value)] = None
    return [(name, ", ".join(values)) for name, values in facts.items()]


def _section_names(parts: Sequence[Results]) -> list[str]:
    """A name for each comparison that is fit for a file: the suite, numbered where it occurs again."""
    names: list[str] = []
    for part in parts:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", part.runs["suite"].iloc[0])
        count = sum(other == name or other.startswith(f"{name}.") for other in names)
        names.append(f"{name}.{count + 1}" if count else name)
    return names


def _write_bytes_atomically(path: Path, data: bytes) -> Path:
    """As `bench.record.write_atomically`, for a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
