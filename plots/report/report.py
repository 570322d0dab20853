"""The report: tables, figures and one self-contained HTML page, from records alone.

load -> write_tables          table.csv, table.md, table.tex
     -> energy_rows           energy.json, energy.csv
     -> draw, render          figures/*.png, figures/*.svg
     -> render_page           report.html
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened
from greenprune.bench.records.stored import write_atomically
from greenprune.plots.figures.all import FIGURES, render
from greenprune.plots.frame.checks import check
from greenprune.plots.frame.comparison import comparison
from greenprune.plots.frame.frame import Results
from greenprune.plots.frame.load import load
from greenprune.plots.frame.problems import Problem
from greenprune.plots.frame.views import name_of
from greenprune.plots.report.commands import load_commands
from greenprune.plots.report.energy_report import energy_rows
from greenprune.plots.report.energy_rows import csv_text as energy_csv
from greenprune.plots.report.energy_rows import json_text as energy_json
from greenprune.plots.report.names import section_names
from greenprune.plots.report.page import render_page
from greenprune.plots.report.sections import Picture, section
from greenprune.plots.tables.tables import write_tables


def write_report(
    results: Results | Path | Sequence[Path],
    out: Path,
    commands: Sequence[Path] = (),
    *,
    page: str = "report.html",
    records: str = "",
) -> list[Path]:
    """Write tables, energy.json, energy.csv, figures/*.png, figures/*.svg and the page into `out`; returns the paths.

    Each file is replaced atomically. The same records give the same files.

    Args:
        results: as `load` gives them, or the folders to load them from.
        commands: files of `greenprune energy --json`; they join the energy report in rows of their own.
        page: name of the page's file.
        records: where the records lie beside the page, as "records/"; empty where they do not.

    Raises:
        UserError: no records, a file that is none of those, or `out` cannot be written.
    """
    if (out / "figures").is_symlink():
        raise UserError(
            f"{out / 'figures'}: is a link, and nothing is written to where it leads; delete it, or use --out"
        )
    if not isinstance(results, Results):
        results = load(results)
    measured = load_commands(commands)
    parts = results.comparisons()
    try:
        written = write_tables(results, out) if parts else []
        accounts = [*energy_rows(results), *measured]
        if accounts:
            written.append(write_atomically(out / "energy.json", energy_json(accounts)))
            written.append(write_atomically(out / "energy.csv", energy_csv(accounts)))
        named = list(zip(section_names(parts), parts, strict=True))
        sections, undrawn = [], []
        for name, part in named:
            pictures, paths, failed = _write_figures(part, out / "figures", f"{name}-" if len(parts) > 1 else "")
            undrawn += failed
            written += paths
            sections.append(section(part, comparison(part), name, pictures))
        problems = (*results.problems, *check(results), *undrawn)
        html = render_page(results, named, sections, problems, commands=measured, records=records)
        written.append(write_atomically(out / page, html))
    except OSError as e:
        raise UserError(f"{out}: the report cannot be written ({e.strerror})") from None
    return written


def _write_figures(part: Results, folder: Path, prefix: str) -> tuple[list[Picture], list[Path], list[Problem]]:
    """What the page holds, the files of all figures, and what could not be drawn: records may hold anything."""
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
        stem = f"{prefix}{spec.name}"
        paths.append(_write_bytes_atomically(folder / f"{stem}.png", png))
        paths.append(_write_bytes_atomically(folder / f"{stem}.svg", svg))
        if not spec.of_runs:
            pictures.append(Picture(paths[-1], spec.title, words, spec.caption, svg))
    return pictures, paths, failed


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
