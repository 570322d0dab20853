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
    """End and say what was ended.

    Raises:
        UserError: there is no such folder; or an engine could not end all of its own, which those after it have done.
    """
    from greenprune.bench.engines.catalogue import make
    from greenprune.bench.engines.engine import Place
    from greenprune.bench.engines.names import ENGINES

    folder = arguments.folder
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such results folder; allowed: a suite's, such as results/quickstart")
    console = terminal.console()
    ended: set[str] = set()
    problems = []
    for name in reversed(ENGINES):  # `local` last: on its own node a job of Slurm looks like a run of this machine
        try:
            for key, how in make(name, None, Place()).cancel(folder, frozenset(ended)):
                ended.add(key)
                console.print(f"{key}: {how}", highlight=False, markup=False, soft_wrap=True)
        except UserError as e:
            problems.append(str(e))
    if ended:
        console.print("what was finished is kept; `greenprune run` goes on from there", highlight=False)
    elif not problems:
        console.print("nothing is queued or running here", highlight=False)
    if problems:
        raise UserError("\n".join(problems))
    return 0
