"""The command `greenprune publish`. `greenprune.plots.report.publish` does the work."""

from __future__ import annotations

import argparse
from pathlib import Path

from greenprune.bench.errors import UserError


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.set_defaults(call=command_publish)
    command.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULTS",
        help="results folders of single suites, such as results/quickstart, or a folder of several, such as results",
    )
    command.add_argument("--to", type=Path, required=True, metavar="SITE", help="the folder of the site")


def command_publish(arguments: argparse.Namespace) -> int:
    """A site of static files from records alone. Raises UserError: no records, one that cannot be read, or a place that cannot
    be written."""
    from greenprune.bench import terminal
    from greenprune.plots.report.publish import publish

    console = terminal.console()
    pages, bad = publish(arguments.results, arguments.to)
    for path in pages:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    if bad:  # one bad file does not hide the others, but it is bad input all the same
        raise UserError("\n".join(bad))
    return 0
