"""The report: tables, figures and one self-contained HTML page, from records alone.

load -> write_tables          table.csv, table.md, table.tex
     -> energy_rows           energy.json, energy.csv
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
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened
from greenprune.bench.records.record import Record, write_atomically
from greenprune.bench.text import bounded, signed_points, three_digits
from greenprune.plots.figures.all import FIGURES, render
from greenprune.plots.frame.checks import check
from greenprune.plots.frame.comparison import comparison, reading_order, rows_of
from greenprune.plots.frame.frame import Results, load
from greenprune.plots.frame.joint import sentence
from greenprune.plots.frame.problems import Problem, by_weight, counted
from greenprune.plots.frame.rows import KINDS, machine_label
from greenprune.plots.frame.views import name_of
from greenprune.plots.report.commands import HEADINGS, cells, load_commands
from greenprune.plots.report.energy_report import crosscheck_text, energy_rows, totals
from greenprune.plots.report.energy_rows import csv_text as energy_csv
from greenprune.plots.report.energy_rows import json_text as energy_json
from greenprune.plots.report.energy_rows import place, place_of_row
from greenprune.plots.report.summary import sentences
from greenprune.plots.tables.best import best_rows
from greenprune.plots.tables.columns import GROUPS, legend, readable
from greenprune.plots.tables.published import load_published
from greenprune.plots.tables.tables import write_tables

KIND_MEANINGS = {
    "measured": "read from an energy counter of the hardware (NVML, RAPL)",
    "sampled": "power readings of the hardware, integrated over time",
    "modelled": "no sensor: CPU time and memory of the process, times assumed watts; the bounds are the assumptions'",
}

CHECKED = {"yes": "", "no": "not read again at its source"}
"""What to add to a published figure, by how its column `accuracies_checked` begins."""

UNKNOWN = float("nan")

LONGEST_NAME = 100
"""Of a comparison within the name of a file; file systems take 255 bytes in all."""


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


def write_report(results_folders: Path | Sequence[Path], out: Path, commands: Sequence[Path] = ()) -> list[Path]:
    """Write tables, energy.json, energy.csv, figures/*.png, figures/*.svg and report.html into `out`; returns the paths.

    Each file is replaced atomically. The same records give the same files.

    Args:
        commands: files of `greenprune energy --json`; they join the energy report in rows of their own.

    Raises:
        UserError: no records, a file that is none of those, or `out` cannot be written.
    """
    if (out / "figures").is_symlink():
        raise UserError(
            f"{out / 'figures'}: is a link, and nothing is written to where it leads; delete it, or use --out"
        )
    results = load(results_folders)
    measured = load_commands(commands)
    parts = results.comparisons()
    try:
        written = write_tables(results, out) if parts else []
        accounts = [*energy_rows(results), *measured]
        if accounts:
            written.append(write_atomically(out / "energy.json", energy_json(accounts)))
            written.append(write_atomically(out / "energy.csv", energy_csv(accounts)))
        sections, undrawn = [], []
        for name, part in zip(_section_names(parts), parts, strict=True):
            table = comparison(part)
            pictures, paths, failed = _write_figures(part, out / "figures", f"{name}-" if len(parts) > 1 else "")
            undrawn += failed
            written += paths
            sections.append(_section(part, table, name, pictures))
        problems = (*results.problems, *check(results), *undrawn)
        together = _tables(comparison(results)) if len(parts) > 1 else []
        html = page(sections, grouped(problems), counts=counted(problems), together=together, commands=measured)
        written.append(write_atomically(out / "report.html", html))
    except OSError as e:
        raise UserError(f"{out}: the report cannot be written ({e.strerror})") from None
    return written


def page(
    sections: Sequence[dict[str, Any]],
    problems: Sequence[dict[str, Any]],
    *,
    counts: str = "",
    together: Sequence[dict[str, Any]] = (),
    commands: Sequence[dict[str, Any]] = (),
) -> str:
    """The HTML page; everything in it is escaped unless the template says otherwise.

    Args:
        counts: how many problems there are of each kind.
        together: tables of several comparisons side by side, as those of a section.
        commands: rows of the energy report for single commands.
    """
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("report.html").render(
        sections=sections,
        problems=problems,
        counts=counts,
        together=together,
        measured={"headings": HEADINGS, "rows": [cells(row) for row in commands]},
    )


def grouped(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """Problems that say the same, together: kind, what, remedy, and the places where they occur with the details."""
    places: dict[tuple[str, str, str], dict[str, dict[str, None]]] = {}
    for problem in by_weight(problems):
        found = places.setdefault((problem.kind, problem.what, problem.remedy), {}).setdefault(problem.where, {})
        if problem.detail:
            found[problem.detail] = None
    return [
        {"kind": kind, "what": what, "remedy": remedy, "where": [(place, "; ".join(d)) for place, d in where.items()]}
        for (kind, what, remedy), where in places.items()
    ]


def _write_figures(part: Results, folder: Path, prefix: str) -> tuple[list[Picture], list[Path], list[Problem]]:
    """What was drawn, its files, and what could not be: records may hold anything."""
    pictures, paths, failed = [], [], []
    for spec in FIGURES:
        try:
            if not spec.applies(part):
                continue
            figure = spec.draw(part)
            svg, png, words = render(figure, "svg"), render(figure, "png"), spec.describe(part)
        except Exception as e:
            what = f"the figure “{spec.title}” cannot be drawn from these records ({shortened(f'{type(e).__name__}: {e}')})"
            failed.append(Problem("figure", name_of(part.runs.iloc[0]), what, "the tables are not affected"))
            continue
        stem = folder / f"{prefix}{spec.name}"
        paths.append(_write_bytes_atomically(stem.with_name(f"{stem.name}.png"), png))
        paths.append(_write_bytes_atomically(stem.with_name(f"{stem.name}.svg"), svg))
        pictures.append(Picture(paths[-1], spec.title, words, spec.caption, svg))
    return pictures, paths, failed


def _section(part: Results, table: pd.DataFrame, name: str, pictures: Sequence[Picture]) -> dict[str, Any]:
    """What the template needs for one comparison."""
    return {
        "name": name,
        "suite": name_of(part.runs.iloc[0]),
        "machine": part.runs["machine"].iloc[0],
        "sentences": [*sentences(part, table), *_measured_together(part)],
        "tables": _tables(table),
        "legend": legend(table),
        "pictures": pictures,
        "sources": _sources(part),
        "energy": _energy(part),
        "published": _published(part),
        "emissions": list(dict.fromkeys(_emissions(part))),
        "facts": _facts(part),
        "overrides": list(dict.fromkeys("; ".join(r.overrides) for r in part.records if r.overrides)),
        "commands": list(
            dict.fromkeys(x.command for x in (*part.records, *part.joints) if x is not None and x.command)
        ),
    }


def _tables(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The readable table in groups of columns that fit on a page; a cell is its text and what it is sorted by."""
    table = reading_order(table)
    budgets = list(table["budget"])
    tables = []
    for group in GROUPS:
        columns = [column for column in readable(table) if column.group in ("", group)]
        best = [best_rows(table, column.number) for column in columns]
        rows = [
            {
                "classes": ["invalid"] * (not row["valid"])
                + ["begins"] * (place > 0 and row["budget"] != budgets[place - 1]),
                "cells": [
                    (c.text(row), None if c.number is None else row[c.number], place in found)
                    for c, found in zip(columns, best, strict=True)
                ],
            }
            for place, row in enumerate(rows_of(table))
        ]
        if any(column.group == group for column in columns):
            tables.append({"title": group, "columns": columns, "rows": rows})
    return tables


def _energy(part: Results) -> dict[str, Any]:
    """The energy report: what all runs took together, and a row for each training."""
    rows = energy_rows(part)
    together = []
    for total in totals(rows):
        kwh = bounded(total["energy_kwh"], total["energy_low_kwh"], total["energy_high_kwh"], three_digits)
        grams = "" if total["gco2e"] is None else f", {three_digits(total['gco2e'])} g CO2e"
        together.append(f"{kwh} kWh ({total['kind']}){grams}")
    trainings = []
    checked = {r.key: crosscheck_text(r.crosscheck) for r in part.records if r.crosscheck}
    for row in (row for row in rows if row["phase"] == "training"):
        kwh = bounded(row["energy_consumed"], row["energy_low_kwh"], row["energy_high_kwh"], three_digits)
        emissions_g = None if row["emissions"] is None else 1000 * row["emissions"]
        figures = [(three_digits(row["duration"] / 60), row["duration"]), (kwh, row["energy_consumed"])]
        figures.append(("–", None) if emissions_g is None else (three_digits(emissions_g), emissions_g))
        names = [(row[name] or "–", None) for name in ("run_id", "kind")]
        names.append((place_of_row(row) or "–", None))
        trainings.append([*names[:2], *figures, names[2], (row["gpu_model"] or row["cpu_model"] or "–", None)])
        if checked:
            trainings[-1].append((checked.get(row["run_id"], "–"), None))
    return {
        "together": together,
        "trainings": trainings,
        "checked": bool(checked),
        "redone": [f"{r.key}: {told}" for r in part.records if (told := redone(r))],
        "pue": rows[0]["pue"] if rows else None,
    }


def redone(record: Record) -> str:
    """What of a training was done twice, because it was interrupted; empty where it never was."""
    if not record.interruptions or record.ledger is None:
        return ""
    times = "once" if record.interruptions == 1 else f"{record.interruptions} times"
    return f"interrupted {times}, redone: {record.ledger.redone_share:.1%} of the training"


def _published(part: Results) -> list[list[str]]:
    """What papers print for the data set of this comparison: rows of text, one for each figure."""
    datasets = {_plain(str(r.settings.get("dataset", ""))) for r in part.records if r.task == "classification"}
    table = load_published()
    return [
        [
            row["network"],
            row["method"],
            f"{row['flops_cut_percent']:g}",
            bounded(row["baseline_percent"], UNKNOWN, UNKNOWN, lambda percent: f"{percent:.2f}"),
            bounded(row["pruned_percent"], UNKNOWN, UNKNOWN, lambda percent: f"{percent:.2f}"),
            bounded(row["delta_points"], UNKNOWN, UNKNOWN, signed_points),
            bounded(row["stated_delta_points"], UNKNOWN, UNKNOWN, signed_points),
            "; ".join(
                part
                for part in (
                    row["source"],
                    row["note"],
                    CHECKED.get(row["accuracies_checked"].partition(":")[0], row["accuracies_checked"]),
                )
                if part
            ),
        ]
        for row in rows_of(table)
        if _plain(row["dataset"]) in datasets
    ]


def _plain(name: str) -> str:
    """`CIFAR-10` and `cifar10` are the same."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


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
            centre = f", with a PUE of {about.pue:g}" if about.pue != 1 else ""
            where = place(about.country, about.region, about.cloud)
            yield f"{about.grid_gco2e_per_kwh:.4g} g CO2e per kWh in {where}, from {about.source}{centre}"


def _measured_together(part: Results) -> list[str]:
    """A sentence for each joint measurement that inference figures are from."""
    joints = [joint for joint in part.joints if joint is not None]
    return list(dict.fromkeys(sentence(joint, machine_label(joint.machine)) for joint in joints))


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
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", name_of(part.runs.iloc[0]))[:LONGEST_NAME]
        count = sum(other == name or other.startswith(f"{name}.") for other in names)
        names.append(f"{name}.{count + 1}" if count else name)
    return names


def _write_bytes_atomically(path: Path, data: bytes) -> Path:
    """As `greenprune.bench.records.record.write_atomically`, for a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
