"""What the page says of one comparison below its figure: tables, pictures, energy, origin. Plain data for the template."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from greenprune.bench.energy.reading import KINDS
from greenprune.bench.records.record import Record
from greenprune.bench.text import bounded, listed, plural, signed_points, three_digits
from greenprune.plots.frame.comparison import reading_order, rows_of
from greenprune.plots.frame.frame import Results
from greenprune.plots.frame.joint import sentence
from greenprune.plots.frame.rows import machine_label
from greenprune.plots.frame.views import name_of
from greenprune.plots.report.answer import answer
from greenprune.plots.report.energy_report import crosscheck_text, energy_rows, readings_lacking, totals
from greenprune.plots.report.energy_rows import place, place_of_row
from greenprune.plots.report.served import served_tables
from greenprune.plots.report.summary import sentences
from greenprune.plots.tables.best import best_rows
from greenprune.plots.tables.columns import GROUPS, legend, readable
from greenprune.plots.tables.published import load_published

KIND_MEANINGS = {
    "measured": "read from an energy counter of the hardware (NVML, RAPL)",
    "sampled": "power readings of the hardware, integrated over time",
    "modelled": "no sensor: CPU time and memory of the process, times assumed watts; the bounds are the assumptions'",
}

CHECKED = {"yes": "", "no": "not read again at its source"}
"""What to add to a published figure, by how its column `accuracies_checked` begins."""

UNKNOWN = float("nan")


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


def section(part: Results, table: pd.DataFrame, name: str, pictures: Sequence[Picture]) -> dict[str, Any]:
    """What the template needs for one comparison."""
    return {
        "name": name,
        "suite": part.runs["suite"].iloc[0],
        "heading": name_of(part.runs.iloc[0]),
        "about": _about(part),
        "answer": answer(part, table),
        "machine": part.runs["machine"].iloc[0],
        "sentences": [*sentences(part, table), *_measured_together(part)],
        "tables": [*tables_of(table), *served_tables(part.records)],
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


def _about(part: Results) -> str:
    """What was compared, where and when, in one line."""
    row = part.runs.iloc[0]
    last = max((record.finished_at[:10] for record in part.records), default="")
    parts = (f"{row['model']} on {row['dataset']}", row["machine"], plural(len(part.runs), "run"), last)
    return " · ".join(text for text in parts if text)


def tables_of(table: pd.DataFrame) -> list[dict[str, Any]]:
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
    together, lacking = [], readings_lacking(part)
    for total in totals(rows):
        kwh = bounded(total["energy_kwh"], total["energy_low_kwh"], total["energy_high_kwh"], three_digits)
        grams = "" if total["gco2e"] is None else f", {three_digits(total['gco2e'])} g CO2e"
        have, lack = lacking.get(total["kind"], (0, 0))
        partly = f", of {have - lack} of {plural(have, 'reading')}: the others lack a sensor" if lack else ""
        together.append(f"{kwh} kWh ({total['kind']}){grams}{partly}")
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
        "counted": plural(len(trainings), "training"),
        "checked": bool(checked),
        "redone": [f"{r.key}: {told}" for r in part.records if (told := redone(r))],
        "pue": listed([f"{pue:g}" for pue in sorted({row["pue"] for row in rows})]),
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
