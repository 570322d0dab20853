"""The command `greenprune run`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from greenprune.bench import terminal
from greenprune.bench.cli.arguments import (
    each_suite,
    engine_arguments,
    jobs_argument,
    overrides_of,
    prepare,
    run_arguments,
    shares_for,
    suite_arguments,
    typed,
)
from greenprune.bench.engines.names import LOCAL
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened, visible
from greenprune.bench.run.stop import STARTED_S, ending_at_once, seconds_of, stoppable

if TYPE_CHECKING:
    from greenprune.bench.engines.engine import Engine
    from greenprune.bench.engines.launch import Outcome
    from greenprune.bench.inference.job import JointJob


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.set_defaults(call=each_suite(command_run))
    suite_arguments(command)
    run_arguments(command)
    jobs_argument(command)
    engine_arguments(command)
    command.add_argument(
        "--skip-measure",
        action="store_true",
        help="do not measure all networks side by side when all runs are finished",
    )
    command.add_argument(
        "--remake", action="store_true", help="run again what is complete but for its network, which was deleted"
    )
    command.add_argument(
        "--time-limit",
        metavar="TIME",
        help="save and stop some time before this is over, as a batch system counts it: minutes, or hours:minutes:seconds",
    )


def command_run(arguments: argparse.Namespace) -> int:
    """Run what is left to do, measure all networks together, and write the report; 1 where something failed."""
    left_s = None
    if arguments.time_limit is not None:
        left_s = seconds_of(arguments.time_limit) - (time.monotonic() - STARTED_S)
    with stoppable(left_s):
        return run_suite(arguments)


def run_suite(arguments: argparse.Namespace, *, brief: bool = False) -> int:
    """As of `command_run`; `brief` leaves what was found to whoever calls."""
    with ending_at_once():
        prepared = prepare(arguments)
        import greenprune.plots.report.report  # noqa: F401 - what is imported here can be interrupted
        from greenprune.bench.distributed.refuse import refuse_devices
        from greenprune.bench.engines.catalogue import make
        from greenprune.bench.engines.engine import Place
        from greenprune.bench.engines.launch import launch
        from greenprune.bench.inference.job import JointJob
        from greenprune.bench.records.folder import CLOSING_FILE
        from greenprune.bench.records.lock import holding
        from greenprune.bench.run.display import make_display  # late: what is wrong with a suite is said without torch

    if arguments.engine != LOCAL and arguments.jobs != 1:
        raise UserError(
            f"--jobs {arguments.jobs}: is for runs on this machine; how many go on at a time with --engine {arguments.engine} "
            "say its options and what the cluster has; allowed: no --jobs"
        )
    console = terminal.console()

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    recipe = prepared.suite.training
    shares = shares_for(arguments.jobs, prepared.device, recipe.devices)
    if arguments.engine == LOCAL:
        refuse_devices(recipe, prepared.device, len(shares))
    for note in shares.notes:
        say(f"Note: {note}.")
    place = Place(prepared.device, shares.each, prepared.suite.run, say)
    engine = make(arguments.engine, arguments.engine_config, place)
    folder = arguments.out / prepared.suite.name
    data_root = None if arguments.data is None else str(arguments.data)
    command = typed()
    tables = [entry for entry in prepared.suite.dataset if not isinstance(entry, str)]
    job = JointJob(
        folder=str(folder),
        command=command,
        data_root=data_root,
        data_folders={entry.label: entry.folder for entry in tables if entry.folder},
        trust=(
            *prepared.suite.model,
            *(entry.factory for entry in tables if entry.factory),
            *prepared.suite.measurement.runtimes,
        ),
    )
    display = make_display(console, len(shares) if arguments.engine == LOCAL else 2)  # lines name their runs
    try:
        outcome = launch(
            prepared.suite.name,
            prepared.runs,
            folder,
            engine=engine,
            data_root=data_root,
            command=command,
            overrides=tuple(visible(str(each)) for each in overrides_of(arguments)),
            display=display,
            running=prepared.suite.run,
            remake=arguments.remake,
            data=prepared.data,
            everything=prepared.everything,
            measuring=None if arguments.skip_measure else job,
        )
    finally:
        display.close()
    if outcome.skipped:
        console.print(f"{len(outcome.skipped)} complete before, kept: {', '.join(outcome.skipped)}", highlight=False)
    if outcome.without_network:
        gone = ", ".join(outcome.without_network)
        console.print(
            f"{len(outcome.without_network)} of them without their network (model.safetensors), which cannot be measured "
            f"again: {gone}; --remake runs them again",
            highlight=False,
        )
    for note in outcome.notes:
        console.print(f"Note: {note}.", highlight=False, markup=False, soft_wrap=True)
    with holding(folder / CLOSING_FILE):  # another start may be at its end, too
        return _close(arguments, engine, job, outcome, folder, brief=brief)


def _close(
    arguments: argparse.Namespace, engine: Engine, job: JointJob, outcome: Outcome, folder: Path, *, brief: bool
) -> int:
    """Measure all networks together where that is due, write the report, and say how it went; the exit code."""
    from greenprune.bench.records.folder import here
    from greenprune.bench.run.side_by_side import is_due
    from greenprune.plots.frame.load import load
    from greenprune.plots.report.report import write_report
    from greenprune.plots.tables.tables import terminal_table

    console = terminal.console()
    measured, others = True, here(folder)
    if others and not arguments.skip_measure:
        console.print(
            f"not measured side by side yet: {', '.join(others)} is still being run on this machine; whoever ends last "
            "measures",
            highlight=False,
        )
    elif not (outcome.failed or outcome.stopped or arguments.skip_measure) and is_due(folder):
        console.print("measuring all networks side by side", highlight=False)
        measured = engine.measure(job) == 0
    if outcome.finished or outcome.skipped or outcome.failed:  # also of failures alone there is something to tell
        results = load(folder)
        written = write_report(results, folder)
        if not brief:
            console.print(terminal_table(results))
            for path in written:
                console.print(f"wrote {path}", highlight=False, soft_wrap=True)
        reasons = {p.where.rpartition("/")[2]: p.what for p in results.problems if p.kind == "failed"}
        for key in outcome.failed:
            why = shortened(reasons.get(key, "the reason is said above"), 200)
            terminal.complain(f"{folder / key} failed: {why}; start again to retry it")
    for key in outcome.stopped:
        terminal.complain(f"{folder / key} was stopped; start again to go on")
    if not measured:
        terminal.complain(f"{folder}: its networks were not measured side by side")
    return 1 if outcome.failed or outcome.stopped or not measured else 0
