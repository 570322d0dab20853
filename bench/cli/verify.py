"""The command `greenprune verify`: whether results are what they say. `greenprune.bench.verify` does the work."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from greenprune.bench import terminal
from greenprune.bench.cli.saving import check_outputs, write_json
from greenprune.bench.foreign import visible
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from greenprune.bench.verify.folder import Verified
    from greenprune.bench.verify.row import Row
    from rich.console import Console

SHOWN = {"ok": "ok", "wrong": "WRONG", "absent": "–"}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.set_defaults(call=command_verify)
    command.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS", help="results folders, of suites or of runs"
    )
    command.add_argument(
        "--data", type=Path, metavar="DIR", help="data folder, to evaluate networks again (no images are downloaded)"
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="write what was found as JSON too")
    command.add_argument(
        "--trust",
        action="store_true",
        help="import the networks and methods module:name that records name, and run them",
    )


def command_verify(arguments: argparse.Namespace) -> int:
    """Print what was found; 0 where everything that could be checked is right, 1 where something is wrong.

    Raises:
        UserError: nothing to check, or the JSON cannot be written.
    """
    from greenprune.bench.verify.folder import plain, verify  # it imports torch

    path = arguments.json
    check_outputs({"--json": path}, [])
    found = verify(arguments.results, arguments.data, trust=arguments.trust)
    try:  # what cannot be written is printed, and what cannot be printed is written
        show(found, terminal.console())
    finally:
        if path is not None:
            write_json(path, plain(found))
    return int(bool(found.wrong))


def show(found: Verified, console: Console) -> None:
    """A table for each suite with a row for each run, then what is wrong and what could not be checked, in words."""
    from greenprune.bench.verify.row import COLUMNS

    suites: dict[str, list[Row]] = {}
    for row in found.rows:
        suites.setdefault(row.run.rpartition("/")[0], []).append(row)
    for suite, rows in suites.items():
        table = Table(
            title=Text(visible(suite)), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
        )
        table.add_column("run", overflow="fold", min_width=12)  # the one that gives way where a terminal is narrow
        for name in COLUMNS:
            table.add_column({"parameters": "params"}.get(name, name), no_wrap=True)
        for row in rows:
            cells = [row.cells[name] for name in COLUMNS]
            texts = [Text(SHOWN[cell.state], style="red" if cell.state == "wrong" else "") for cell in cells]
            table.add_row(Text(visible(row.run.rpartition("/")[2])), *texts)
        console.print(table)
    absent: dict[str, int] = {}
    for row in found.rows:
        for name, cell in row.cells.items():
            if cell.state == "wrong":
                _say(console, f"WRONG: {row.run}, {name}: {cell.text}.")
            elif cell.state == "absent" and cell.text:
                absent[f"{name}: {cell.text}"] = absent.get(f"{name}: {cell.text}", 0) + 1
    for text, count in absent.items():
        _say(console, f"Not checked in {count} of {len(found.rows)}: {text}.")
    for note in found.notes:
        _say(console, f"Note: {note}.")
    wrong = len(found.wrong)
    _say(console, f"{wrong} of {len(found.rows)} are not what they say." if wrong else "Nothing is wrong.")


def _say(console: Console, line: str) -> None:
    console.print(visible(line), highlight=False, markup=False, soft_wrap=True)
