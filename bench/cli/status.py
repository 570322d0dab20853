"""`greenprune status RESULTS/SUITE`: how the runs of a suite stand, wherever they are done."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from greenprune.bench import terminal
from greenprune.bench.energy.reading import KINDS
from greenprune.bench.foreign import shortened, visible
from greenprune.bench.text import NOTHING, three_digits
from rich.box import SIMPLE_HEAD
from rich.table import Table


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.set_defaults(call=command_status)
    command.add_argument("folder", type=Path, metavar="RESULTS/SUITE", help="results folder of one suite")


def command_status(arguments: argparse.Namespace) -> int:
    """Print queue, progress, and the joules of training so far. Raises UserError: no such folder, or one without runs."""
    from greenprune.bench.engines.standing import standings

    found, last = standings(arguments.folder)
    kinds = [kind for kind in KINDS if any(kind in each.energy_j for each in found)]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", overflow="fold", min_width=12)  # the one that gives way where a terminal is narrow
    table.add_column("state", no_wrap=True)
    table.add_column("")
    for kind in kinds:
        table.add_column(f"{kind} kJ", justify="right", no_wrap=True)
    for each in found:
        joules = (each.energy_j.get(kind) for kind in kinds)
        cells = [NOTHING if energy_j is None else three_digits(energy_j / 1000) for energy_j in joules]
        table.add_row(each.key, each.state, shortened(visible(each.detail), 160), *cells)
    console = terminal.console()
    console.print(table)
    counts = Counter(each.state for each in found)
    console.print(", ".join(f"{count} {state}" for state, count in counts.most_common()), highlight=False)
    for kind in kinds:
        total_j = sum(each.energy_j.get(kind, 0.0) for each in found)
        console.print(f"training so far: {three_digits(total_j / 1000)} kJ {kind}", highlight=False)
    if last is not None:
        console.print(f"measuring side by side: {last}", highlight=False, markup=False)
    return 0
