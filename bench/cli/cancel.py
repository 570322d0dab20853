"""`greenprune cancel RESULTS/SUITE`: end what is queued and running of a suite, saved where it can be."""

from __future__ import annotations

import argparse
from pathlib import Path

from greenprune.bench import terminal
from greenprune.bench.errors import UserError


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.set_defaults(call=command_cancel)
    command.add_argument("folder", type=Path, metavar="RESULTS/SUITE", help="results folder of one suite")


def command_cancel(arguments: argparse.Namespace) -> int:
    """End and say what was ended. Raises UserError: no such folder, or an engine that cannot be reached from here."""
    from greenprune.bench.engines.catalogue import make
    from greenprune.bench.engines.engine import Place
    from greenprune.bench.engines.names import ENGINES

    folder = arguments.folder
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such results folder; allowed: a suite's, such as results/quickstart")
    said = [line for name in reversed(ENGINES) for line in make(name, None, Place()).cancel(folder)]
    console = terminal.console()
    for line in said or ["nothing is queued or running here"]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if said:
        console.print("what was finished is kept; `greenprune run` goes on from there", highlight=False)
    return 0
