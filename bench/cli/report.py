"""The command `greenprune report`."""

from __future__ import annotations

import argparse
from pathlib import Path

from greenprune.bench.errors import UserError


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.set_defaults(call=command_report)
    command.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULTS",
        help="results folders, such as results/quickstart, compared side by side, and files of `greenprune energy --json`",
    )
    command.add_argument(
        "--out", type=Path, help="where to write (default: into the results folder; ./report where several are given)"
    )


def command_report(arguments: argparse.Namespace) -> int:
    """Tables, figures and pages from records alone. Raises UserError: nothing to read, or a file that cannot be."""
    from greenprune.bench import terminal
    from greenprune.plots.frame.load import load
    from greenprune.plots.frame.problems import unreadable
    from greenprune.plots.report.report import write_report
    from greenprune.plots.tables.tables import terminal_table

    console = terminal.console()
    files = [path for path in arguments.results if path.is_file()]
    folders = [path for path in arguments.results if path not in files]
    results = load(folders)
    bad = unreadable(results.problems)
    if bad and not results.records:
        raise UserError("\n".join(bad))
    out = arguments.out or (folders[0] if len(folders) == 1 else Path("report"))
    written = write_report(results, out, files)  # first: it is there whoever reads what is printed
    if folders:
        console.print(terminal_table(results))
    for path in written:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    if bad:  # one bad file does not hide the others, but it is bad input all the same
        raise UserError("\n".join(bad))
    return 0
