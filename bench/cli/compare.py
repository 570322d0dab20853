"""The command `greenprune compare`. `greenprune.plots.report.regressions` does the work."""

from __future__ import annotations

import argparse
import math
from pathlib import Path


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.set_defaults(call=command_compare)
    command.add_argument("base", type=Path, metavar="BASE", help="results folder to compare with")
    command.add_argument("new", type=Path, metavar="NEW", help="results folder that may have become worse")
    command.add_argument(
        "--tolerance",
        type=_share,
        metavar="SHARE",
        help="how much worse is no regression yet; 0.02 (the default): two points of a score in per cent, 2 %% of "
        "another score, of time and of energy",
    )


def command_compare(arguments: argparse.Namespace) -> int:
    """Print what changed; 0 well, 1 when something got worse.

    Raises:
        UserError: a folder without records, an unreadable record, or nothing to compare.
    """
    from greenprune.bench import terminal
    from greenprune.plots.report.regressions import TOLERANCE, compare_folders, show  # pandas takes half a second

    tolerance = TOLERANCE if arguments.tolerance is None else arguments.tolerance
    found = compare_folders(arguments.base, arguments.new, tolerance)
    show(found, tolerance, terminal.console())
    return int(found.regressed)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: allowed is a number from 0 up")
    return value
