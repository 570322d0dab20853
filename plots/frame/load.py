"""Records in, tidy tables out: the only place in `plots/` that reads result files.

    results folder -> load() -> Results(runs, inference, records, problems) -> tables, figures, report

Nothing here (or anywhere in `plots/`) imports torch, so results can be read on any machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import RECORD_FILE, Record
from greenprune.bench.records.tuning import read_tuning, tuning_files
from greenprune.bench.suite.views import VIEW_NAMES
from greenprune.plots.frame.frame import INFERENCE_COLUMNS, RUN_COLUMNS, TEXT_COLUMNS, Results
from greenprune.plots.frame.joint import choose
from greenprune.plots.frame.problems import Problem, problems_of
from greenprune.plots.frame.rows import inference_row, machine_label, run_row
from greenprune.plots.frame.views import Found, in_views, view_of
from greenprune.plots.frame.whole import slim

LONGEST_NAME = 200
"""Of a suite, a run or a method in a record; a suite allows less."""

LARGEST = 2.0**63
"""Of a whole number in a table."""


def load(results: Path | Sequence[Path]) -> Results:
    """Read every record under one or several results folders (or suite folders).

    A record that cannot be used is named in `problems` and left out, so that one bad file does not hide the others.

    Raises:
        UserError: a folder that is missing or holds no record.
    """
    folders = [Path(results)] if isinstance(results, str | Path) else [Path(folder) for folder in results]
    found: dict[Path, tuple[str, Path]] = {}  # by resolved path: folders may overlap, a record counts once
    for folder in folders:
        for path in _record_files(folder):
            found.setdefault(path.resolve(), (str(folder), path))

    done: list[Found] = []
    problems: list[Problem] = []
    for folder_name, path in found.values():
        try:
            record = read_record(path)
        except UserError as e:
            what = str(e).removeprefix(f"{path}: ")
            problems.append(Problem("unreadable", str(path), what, "it is left out of everything here"))
            continue
        odd = _what_is_odd(record)
        if odd:
            problems.append(Problem("unreadable", str(path), odd, "it is left out of everything here"))
            continue
        problems.extend(problems_of(record))
        if record.status == "done":
            done.append((folder_name, slim(record), path.parent))
    done, repeated = _latest_of_each(done)
    problems.extend(repeated)

    searches: dict[Path, tuple[str, Path]] = {}  # likewise
    for folder in folders:
        for path in tuning_files(folder):
            searches.setdefault(path.resolve(), (str(folder), path))
    tunings = []
    for folder_name, path in searches.values():
        try:
            tunings.append((folder_name, read_tuning(path)))
        except UserError as e:
            what = str(e).removeprefix(f"{path}: ")
            problems.append(Problem("unreadable", str(path), what, "the cost of this search is shown nowhere"))

    shown = in_views(done, machine_label)
    runs = [run_row(run.folder, run.record) | {"view": VIEW_NAMES[run.view]} for run in shown]
    _name_comparisons(runs)
    chosen, notes = choose([(run.folder, run.record, run.place) for run in shown])
    problems.extend(notes)
    inference = [
        {name: row[name] for name in INFERENCE_COLUMNS if name in row}
        | {"together": together}
        | inference_row(measured)
        for row, choice in zip(runs, chosen, strict=True)
        for measured, together in choice.figures
    ]
    return Results(
        runs=_frame(runs, RUN_COLUMNS),
        inference=_frame(inference, INFERENCE_COLUMNS),
        records=tuple(
            run.record.model_copy(update={"served": choice.served}) for run, choice in zip(shown, chosen, strict=True)
        ),
        places=tuple(run.place for run in shown),
        joints=tuple(choice.joint for choice in chosen),
        problems=tuple(problems),
        tunings=tuple(tunings),
    )


def _what_is_odd(record: Record) -> str | None:
    """What in a record of the right form no run can have written, so that nothing can be drawn of it."""
    if view_of(record) not in VIEW_NAMES:
        return f'settings.view = "{shortened(view_of(record))}"; allowed: {", ".join(VIEW_NAMES)}'
    for name in ("suite", "key", "method", "method_name"):
        if len(getattr(record, name)) > LONGEST_NAME:
            return f"{name} has {len(getattr(record, name)):,} characters; allowed are {LONGEST_NAME}"
    if record.status == "done":
        try:
            for name, value in run_row("", record).items():
                if name not in TEXT_COLUMNS and value is not None and abs(float(value)) > LARGEST:
                    raise OverflowError(f"{name} is too large")
            for measured in record.inference:
                inference_row(measured)
        except (ArithmeticError, TypeError, ValueError, LookupError, AttributeError) as e:
            return f"its figures make no row of a table ({type(e).__name__}: {shortened(str(e))})"
    return None


def _name_comparisons(runs: list[dict[str, Any]]) -> None:
    """Fill in the column `comparison`."""
    suites: dict[tuple[str, str], dict[tuple[str, str], None]] = {}
    for row in runs:
        suites.setdefault((row["folder"], row["suite"]), {})[row["dataset"], row["model"]] = None
    for row in runs:
        several = len(suites[row["folder"], row["suite"]]) > 1
        parts = [f"{row['dataset']} on {row['model']}"] if several else []
        parts += [] if row["view"] == VIEW_NAMES["samples"] else [row["view"]]
        row["comparison"] = ", ".join([row["suite"], *parts])


def _record_files(folder: Path) -> list[Path]:
    """The record files of a results folder, a suite folder or a single run's folder, sorted."""
    if not folder.exists():
        raise UserError(f"{folder}: there is no such results folder")
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder; give the results folder that `greenprune run` wrote")
    patterns = (RECORD_FILE, f"*/{RECORD_FILE}", f"*/*/{RECORD_FILE}")
    paths = sorted(path for pattern in patterns for path in folder.glob(pattern))
    if not paths:
        raise UserError(f"{folder}: holds no records (looked for <suite>/<run>/{RECORD_FILE})")
    return paths


def _latest_of_each(done: Sequence[Found]) -> tuple[list[Found], list[Problem]]:
    """Of runs that claim to be the same (method, budget, seed), keep the one that finished last.

    Two of them in one folder differ in their settings, and a mean over both would describe neither.
    """
    latest: dict[tuple[Any, ...], int] = {}
    for i, (folder, r, _) in enumerate(done):
        identity = (folder, r.suite, r.pair, machine_label(r.machine), view_of(r), r.method, r.budget, r.seed)
        if identity not in latest or done[latest[identity]][1].finished_at <= r.finished_at:
            latest[identity] = i
    kept = set(latest.values())
    problems = [
        Problem(
            "repeated",
            f"{r.suite}/{r.key}",
            f"another run of {r.method} at {r.budget:g} with seed {r.seed} finished later",
            "only the later one is shown; delete the one that you don't want",
        )
        for i, (_, r, _) in enumerate(done)
        if i not in kept
    ]
    return [entry for i, entry in enumerate(done) if i in kept], problems


def _frame(rows: list[dict[str, Any]], columns: dict[str, str]) -> pd.DataFrame:
    """The rows with exactly these columns; None becomes NaN in columns of numbers."""
    frame = pd.DataFrame(rows, columns=list(columns))
    for name in frame.columns:
        if name not in TEXT_COLUMNS and name not in ("valid", "together", "higher_is_better"):
            frame[name] = pd.to_numeric(frame[name])
    return frame
