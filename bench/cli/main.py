"""The command `greenprune`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from greenprune.bench.cli import compare
from greenprune.bench.cli import measure as joint_command
from greenprune.bench.cli.arguments import (
    data_of,
    jobs_argument,
    more_suites,
    resolve_device,
    run_arguments,
    suite_arguments,
)
from greenprune.bench.errors import UserError
from rich.console import Console
from rich.table import Table

BUDGET_NAMES = {"macs": "MACs", "params": "parameters", "latency": "latency", "energy": "energy"}
"""What a budget is stated in, as a heading."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 well, 1 a run failed or got worse, 2 bad input, 130 interrupted."""
    from greenprune.bench.cli.energy import split_command

    argv, measured = split_command(sys.argv[1:] if argv is None else argv)
    arguments = parser().parse_args(argv)
    if measured is not None:
        arguments.measured = measured
    try:
        return int(arguments.call(arguments))
    except UserError as e:
        for line in str(e).splitlines():
            print(f"greenprune: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("greenprune: interrupted; what was finished is kept, start it again to go on", file=sys.stderr)
        return 130


class ShowVersions(argparse.Action):
    """Prints greenprune's version and those of what its figures depend on, as records name them."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from greenprune.bench.machine.machine import describe_versions  # late: it imports torch

        versions = describe_versions()
        print(f"greenprune {versions.pop('greenprune')}")
        print(", ".join(f"{name} {version}" for name, version in versions.items()))
        parser.exit()


def parser() -> argparse.ArgumentParser:
    from greenprune.bench.cli import doctor
    from greenprune.bench.cli import energy as measure
    from greenprune.bench.cli import tune as tune_command

    top = argparse.ArgumentParser(
        prog="greenprune", description="Settle with measured joules which way of pruning a neural network is worth it."
    )
    top.add_argument("--version", action=ShowVersions, nargs=0, help="print the versions that a figure depends on")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run suites and write records, tables and figures")
    run.set_defaults(call=each_suite(command_run))
    suite_arguments(run)
    more_suites(run)
    run_arguments(run)
    jobs_argument(run)
    run.add_argument(
        "--skip-measure",
        action="store_true",
        help="do not measure all networks side by side when all runs are finished",
    )

    plan = commands.add_parser("plan", help="print what suites would run, and what time and energy it would take")
    plan.set_defaults(call=each_suite(command_plan))
    suite_arguments(plan)
    more_suites(plan)
    run_arguments(plan)
    jobs_argument(plan)

    joint_command.add_arguments(
        commands.add_parser("measure", help="measure inference of all networks of a suite side by side, in one process")
    )

    report = commands.add_parser("report", help="rebuild tables and figures from records alone")
    report.set_defaults(call=command_report)
    report.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULTS",
        help="results folders, such as results/quickstart, compared side by side, and files of `greenprune energy --json`",
    )
    report.add_argument(
        "--out", type=Path, help="where to write (default: into the results folder; ./report where several are given)"
    )

    tune = commands.add_parser("tune", help="choose a method's options on the held-out images, and say what that cost")
    suite_arguments(tune)
    tune_command.add_arguments(tune)

    schema = commands.add_parser("schema", help="print the JSON schema of suite files, for editors")
    schema.set_defaults(call=command_schema)

    doctor.add_arguments(commands.add_parser("doctor", help="what of this machine's energy can be measured, how well"))
    measure.add_arguments(commands.add_parser("energy", help="measure any command with its whole process tree"))
    compare.add_arguments(commands.add_parser("compare", help="find what got worse between two results folders"))
    return top


def each_suite(call: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """`call` for each suite that was named, one after the other; returns the largest of their exit codes."""

    def calls(arguments: argparse.Namespace) -> int:
        from greenprune.bench.suite.collection import expand

        values = vars(arguments)
        suites = [argparse.Namespace(**values | {"suite": name}) for name in expand([arguments.suite, *arguments.more])]
        if len(suites) > 1:
            for each in suites:  # what is wrong with the last one is not to be found out after the others have run
                _prepare(each)
        return max([call(each) for each in suites])

    return calls


def command_run(arguments: argparse.Namespace) -> int:
    from greenprune.bench.run.display import make_display
    from greenprune.bench.run.launch import launch
    from greenprune.bench.run.process import share_cores
    from greenprune.plots.frame.frame import load
    from greenprune.plots.report.report import write_report
    from greenprune.plots.tables.tables import terminal_table

    suite, runs, _, device = _prepare(arguments)
    shares = share_cores(arguments.jobs, device)
    console = Console()
    folder = arguments.out / suite.name
    display = make_display(console, arguments.jobs)
    try:
        outcome = launch(
            suite.name,
            runs,
            folder,
            data_root=None if arguments.data is None else str(arguments.data),
            command=shlex.join(["greenprune", *sys.argv[1:]]),
            display=display,
            shares=shares,
        )
    finally:
        display.close()
    if outcome.skipped:
        console.print(f"{len(outcome.skipped)} complete before, kept: {', '.join(outcome.skipped)}", highlight=False)
    measured = True
    if not outcome.failed and not arguments.skip_measure and joint_command.is_due(folder):
        console.print("measuring all networks side by side", highlight=False)
        data_root = None if arguments.data is None else str(arguments.data)
        measured = joint_command.measure_in_child(folder, data_root=data_root) == 0
    if outcome.finished or outcome.skipped:
        console.print(terminal_table(load(folder)))
        for path in write_report([folder], folder):
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    for key in outcome.failed:
        print(f"greenprune: {folder / key} failed, see its record.json; start again to retry it", file=sys.stderr)
    if not measured:
        print(f"greenprune: {folder}: its networks were not measured side by side", file=sys.stderr)
    return 1 if outcome.failed or not measured else 0


def command_plan(arguments: argparse.Namespace) -> int:
    import torch
    from greenprune.bench.plan.forecast import forecast
    from greenprune.bench.plan.plan import estimate, resolved, state
    from greenprune.bench.run.process import share_cores

    suite, runs, data, device = _prepare(arguments)
    threads = len(share_cores(arguments.jobs, device)[0])
    if threads:
        torch.set_num_threads(threads)  # as each of the workers has
    console = Console()
    each = estimate(suite, data, device)
    table = Table(title=f"{suite.name}: {suite.dataset}, {suite.model}, on {device}")
    budget = f"{BUDGET_NAMES[suite.cost]} to keep"
    for column in ("#", "run", "method", budget, "seed", "state"):
        table.add_column(column, justify="right" if column in ("#", budget, "seed") else "left")
    todo, folder = 0, arguments.out / suite.name
    for number, planned in enumerate(runs, start=1):
        try:
            run = resolved(planned, folder)
        except UserError:  # what its length follows from is still to run
            run = planned
        what = "to run"
        if run is None:
            run, what = planned, f"none: {planned.pilot} is equal to dense as it is"
        elif (found := state(run, folder)).record is not None:
            what = ("other settings" if found.changed else "done") if found.done else "failed, will be retried"
        todo += what in ("to run", "failed, will be retried")
        s = run.settings
        table.add_row(str(number), run.key, s.method.name, f"{s.budget:.0%}", str(s.seed), what)
    console.print(table)
    if suite.round_to > 1:
        console.print(f"channels in multiples of {suite.round_to}", highlight=False)
    for line in forecast(suite, each, device, todo, arguments.jobs):
        console.print(line, highlight=False, soft_wrap=True)
    return 0


def command_report(arguments: argparse.Namespace) -> int:
    from greenprune.plots.frame.frame import load
    from greenprune.plots.report.report import write_report
    from greenprune.plots.tables.tables import terminal_table

    console = Console()
    files = [path for path in arguments.results if path.is_file()]
    folders = [path for path in arguments.results if path not in files]
    results = load(folders)
    unreadable = [f"{problem.where}: {problem.what}" for problem in results.problems if problem.kind == "unreadable"]
    if unreadable and not results.records:
        raise UserError("\n".join(unreadable))
    if folders:
        console.print(terminal_table(results))
    out = arguments.out or (folders[0] if len(folders) == 1 else Path("report"))
    for path in write_report(folders, out, files):
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    if unreadable:  # one bad file does not hide the others, but it is bad input all the same
        raise UserError("\n".join(unreadable))
    return 0


def command_schema(arguments: argparse.Namespace) -> int:
    from greenprune.bench.suite.suite import schema

    print(json.dumps(schema(), indent=2))
    return 0


def _prepare(arguments: argparse.Namespace):  # type: ignore[no-untyped-def]
    """Check everything that can be checked before anything is spent."""
    from greenprune.bench.energy.carbon import check_country
    from greenprune.bench.errors import did_you_mean
    from greenprune.bench.plan.plan import plan
    from greenprune.bench.suite.file import load_suite

    suite = load_suite(arguments.suite)
    if arguments.country is not None:
        country = check_country(arguments.country)
        measurement = suite.measurement.model_copy(update={"country": country})
        suite = suite.model_copy(update={"measurement": measurement})
    if arguments.only:
        labels = [m.label for m in suite.methods]
        for name in arguments.only:
            if name not in labels:
                raise UserError(
                    f"--only {name}: suite {suite.name} has no such method; allowed: {', '.join(labels)}"
                    f"{did_you_mean(name, labels)}"
                )
        suite = suite.model_copy(update={"methods": tuple(m for m in suite.methods if m.label in arguments.only)})
    device = resolve_device(arguments.device)
    data = data_of(suite, arguments.data)
    return suite, plan(suite, data, device), data, device


if __name__ == "__main__":
    sys.exit(main())
