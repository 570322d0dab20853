"""The command `greenprune plan`."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from greenprune.bench import terminal
from greenprune.bench.cli.arguments import each_suite, jobs_argument, prepare, run_arguments, suite_arguments
from greenprune.bench.errors import UserError
from rich.table import Table

if TYPE_CHECKING:
    from greenprune.bench.plan.plan import Run

BUDGET_NAMES = {"macs": "MACs", "params": "parameters", "latency": "latency", "energy": "energy"}
"""What a budget is stated in, as a heading."""

TO_RUN, TO_RETRY = "to run", "failed, will be retried"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.set_defaults(call=each_suite(command_plan))
    suite_arguments(command)
    run_arguments(command)
    jobs_argument(command)


def command_plan(arguments: argparse.Namespace) -> int:
    """Print every run and what is left to do, and what that will take in time and energy."""
    prepared = prepare(arguments)
    import torch
    from greenprune.bench.plan.cost import resolve_cost
    from greenprune.bench.plan.forecast import forecast, in_all
    from greenprune.bench.plan.plan import estimate
    from greenprune.bench.run.process import share_cores

    suite, device = prepared.suite, prepared.device
    threads = len(share_cores(arguments.jobs, device)[0])
    if threads:
        torch.set_num_threads(threads)  # as each of the workers has
    console = terminal.console()
    table = Table(title=f"{suite.name}: {suite.about}, on {device}")
    budget = f"{BUDGET_NAMES[resolve_cost(suite.cost, device)]} to keep"
    for column in ("#", "run", "method", budget, "seed", "state"):
        table.add_column(column, justify="right" if column in ("#", budget, "seed") else "left")
    todo: Counter[tuple[str, str]] = Counter()
    for number, planned in enumerate(prepared.runs, start=1):
        run, what = _where_it_stands(planned, arguments.out / suite.name)
        s = run.settings
        todo[s.dataset, s.model] += what in (TO_RUN, TO_RETRY)
        table.add_row(str(number), run.key, s.method.name, f"{s.budget:.0%}", str(s.seed), what)
    console.print(table)
    if suite.budget_runtime != "eager":
        console.print(f"budgets hold in {suite.budget_runtime}", highlight=False)
    if suite.budget_batch_size is not None:
        console.print(f"budgets hold at batch size {suite.budget_batch_size}", highlight=False)
    if suite.round_to > 1:
        console.print(f"channels in multiples of {suite.round_to}", highlight=False)
    estimates = []
    for pair in suite.pairs:
        each, count = estimate(suite, pair.model, prepared.data[pair.dataset], device), todo[pair.dataset, pair.model]
        estimates.append((each, count))
        of = f"{pair.dataset} on {pair.model}: " if len(suite.pairs) > 1 else ""
        for line in forecast(suite, each, device, count, arguments.jobs):
            console.print(f"{of}{line}", highlight=False, soft_wrap=True)
    if len(suite.pairs) > 1:
        console.print(in_all(estimates, arguments.jobs), highlight=False, soft_wrap=True)
    return 0


def _where_it_stands(planned: Run, folder: Path) -> tuple[Run, str]:
    """The run, with its length where that is known, and what is left to do of it."""
    from greenprune.bench.plan.plan import resolved, state

    try:
        run = resolved(planned, folder)
    except UserError:  # what its length follows from is still to run
        run = planned
    if run is None:
        return planned, f"none: {planned.pilot} is equal to dense as it is"
    found = state(run, folder)
    if found.record is None:
        return run, TO_RUN
    return run, ("other settings" if found.changed else "done") if found.done else TO_RETRY
