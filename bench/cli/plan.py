"""The command `greenprune plan`."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from greenprune.bench import terminal
from greenprune.bench.cli.arguments import (
    Prepared,
    each_suite,
    engine_arguments,
    jobs_argument,
    prepare,
    run_arguments,
    shares_for,
    suite_arguments,
)
from greenprune.bench.engines.names import LOCAL
from greenprune.bench.errors import UserError
from rich.table import Table

if TYPE_CHECKING:
    from greenprune.bench.plan.cluster import Site
    from greenprune.bench.plan.plan import Run

BUDGET_NAMES = {"macs": "MACs", "params": "parameters", "latency": "latency", "energy": "energy"}
"""What a budget is stated in, as a heading."""

TO_RUN, TO_RETRY = "to run", "failed, will be retried"

Todo = Mapping[tuple[str, str], int]
"""By data set and network: how many runs are still to do."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.set_defaults(call=each_suite(command_plan), planned=True)
    suite_arguments(command)
    run_arguments(command)
    jobs_argument(command)
    engine_arguments(command)
    group = command.add_argument_group("what a plan for machines that are not here assumes")
    group.add_argument("--gpu", metavar="NAME", help="the kind of GPU: v100, a100, h100, or any, which assumes little")
    group.add_argument("--gpu-tflops", type=float, metavar="T", help="of one in a training step, where you know better")
    group.add_argument("--gpu-watts", type=float, metavar="W", help="of one, where you know better")
    group.add_argument(
        "--node-watts", type=float, metavar="W", help="of the rest of a node for each GPU, where you know better"
    )
    group.add_argument("--node-gpus", type=int, default=8, metavar="N", help="GPUs of a node (8)")
    group.add_argument(
        "--requeue-minutes", type=float, default=10.0, metavar="M",
        help="until a job that was ended at its time limit goes on (10)",
    )  # fmt: skip


def command_plan(arguments: argparse.Namespace) -> int:
    """Print every run and what is left to do, and what that will take in time and energy."""
    prepared = prepare(arguments)
    from greenprune.bench.plan.cost import resolve_cost

    suite, device = prepared.suite, prepared.device
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
        table.add_row(str(number), run.key, s.method.name, f"{s.budget:g}", str(s.seed), what)
    lines = _forecast(arguments, prepared, todo)
    console.print(table)
    if suite.budget_runtime != "eager":
        console.print(f"budgets hold in {suite.budget_runtime}", highlight=False)
    if suite.budget_batch_size is not None:
        console.print(f"budgets hold at batch size {suite.budget_batch_size}", highlight=False)
    if suite.round_to > 1:
        console.print(f"channels in multiples of {suite.round_to}", highlight=False)
    for name, data in prepared.data.items():
        for note in data.notes:
            console.print(f"{name}: {note}", highlight=False, markup=False, soft_wrap=True)
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 0


def _forecast(arguments: argparse.Namespace, prepared: Prepared, todo: Todo) -> list[str]:
    """What the runs will take, in sentences. Raises UserError."""
    import torch

    here = prepared.device == "cpu" or (torch.cuda.is_available() and prepared.suite.training.ranks == 1)
    if arguments.engine == LOCAL and arguments.gpu is None and here:
        return _forecast_here(arguments, prepared, todo)
    from greenprune.bench.plan.devices import gpu_of
    from greenprune.bench.plan.elsewhere import on_gpus, on_processors

    site = site_of(arguments, prepared)
    if not site.gpus:
        return on_processors(prepared.suite, prepared.data, todo, site)
    gpu = gpu_of(
        arguments.gpu or "any",
        tflops=arguments.gpu_tflops,
        watts=arguments.gpu_watts,
        rest_watts=arguments.node_watts,
    )
    return on_gpus(prepared.suite, prepared.data, todo, site, gpu)


def site_of(arguments: argparse.Namespace, prepared: Prepared) -> Site:
    """What the engine has to work with. Raises UserError."""
    from greenprune.bench.engines.catalogue import options_of
    from greenprune.bench.plan.cluster import Site

    if not 1 <= arguments.node_gpus <= 1024:
        raise UserError(f"--node-gpus {arguments.node_gpus}: allowed is 1 to 1024")
    if not 0 <= arguments.requeue_minutes < 1e6:
        raise UserError(
            f"--requeue-minutes {arguments.requeue_minutes:g}: allowed is a number at least 0 and below 1000000"
        )
    recipe = prepared.suite.training
    gpus = recipe.ranks if prepared.device == "cuda" else 0
    at_once = arguments.jobs
    if at_once == "auto":
        at_once = max(1, arguments.node_gpus // recipe.devices) if gpus else 1
    if at_once < 1:
        raise UserError(f"--jobs {at_once}: allowed is auto, or an integer at least 1")
    asked = Site(
        arguments.engine,
        at_once=at_once,
        gpus=gpus,
        cores=recipe.devices if recipe.devices > 1 and not gpus else None,
        spread=recipe.nodes,
        node_gpus=arguments.node_gpus,
        node_cores=os.cpu_count() or 1,
        requeue_s=60 * arguments.requeue_minutes,
    )
    return options_of(arguments.engine, arguments.engine_config).site(asked)


def _forecast_here(arguments: argparse.Namespace, prepared: Prepared, todo: Todo) -> list[str]:
    """By steps that are timed on this machine. Raises UserError."""
    import torch
    from greenprune.bench.plan.estimate import estimate
    from greenprune.bench.plan.forecast import forecast, in_all

    suite, device = prepared.suite, prepared.device
    shares = shares_for(arguments.jobs, device, suite.training.devices)
    threads = len(shares.each[0].cores)
    if threads:
        torch.set_num_threads(threads)  # as each of the workers has
    estimates = []
    lines = [f"Note: {note}." for note in shares.notes]
    for pair in suite.pairs:
        each, count = estimate(suite, pair.model, prepared.data[pair.dataset], device), todo[pair.dataset, pair.model]
        estimates.append((each, count))
        of = f"{pair.dataset} on {pair.model}: " if len(suite.pairs) > 1 else ""
        lines += [f"{of}{line}" for line in forecast(suite, each, device, count, len(shares))]
    if len(suite.pairs) > 1:
        lines.append(in_all(estimates, len(shares)))
    return lines


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
