"""The command `greenprune`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import compare, joint_command
from bench.errors import UserError

BUDGET_NAMES = {"macs": "MACs", "params": "parameters", "latency": "latency", "energy": "energy"}
"""What a budget is stated in, as a heading."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 well, 1 a run failed or got worse, 2 bad input, 130 interrupted."""
    from bench.measure import split_command

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


def parser() -> argparse.ArgumentParser:
    from bench import doctor, measure

    top = argparse.ArgumentParser(
        prog="greenprune", description="Settle with measured joules which way of pruning a neural network is worth it."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a suite and write records, tables and figures")
    run.set_defaults(call=command_run)
    _suite_arguments(run)
    run.add_argument(
        "--skip-measure",
        action="store_true",
        help="do not measure all networks side by side when all runs are finished",
    )

    plan = commands.add_parser("plan", help="print what a suite would run, and how long it would take")
    plan.set_defaults(call=command_plan)
    _suite_arguments(plan)

    joint_command.add_arguments(
        commands.add_parser("measure", help="measure inference of all networks of a suite side by side, in one process")
    )

    report = commands.add_parser("report", help="rebuild tables and figures from records alone")
    report.set_defaults(call=command_report)
    report.add_argument("results", nargs="+", type=Path, help="results folder, such as results/quickstart")
    report.add_argument("--out", type=Path, help="where to write (default: into the results folder)")

    schema = commands.add_parser("schema", help="print the JSON schema of suite files, for editors")
    schema.set_defaults(call=command_schema)

    doctor.add_arguments(commands.add_parser("doctor", help="what of this machine's energy can be measured, how well"))
    measure.add_arguments(commands.add_parser("energy", help="measure any command with its whole process tree"))
    compare.add_arguments(commands.add_parser("compare", help="find what got worse between two results folders"))
    return top


def _suite_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("suite", help="name of a shipped suite, or path of a suite.toml")
    command.add_argument(
        "--data", type=Path, metavar="DIR", help="data folder (default: GREENPRUNE_DATA, else a cache)"
    )
    command.add_argument("--out", type=Path, metavar="DIR", default=Path("results"), help="results folder (./results)")
    command.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    command.add_argument("--only", nargs="+", metavar="METHOD", help="run only these methods (labels of the suite)")
    command.add_argument("--country", metavar="ISO3", help="whose grid intensity to use for CO2, e.g. FRA")


def command_run(arguments: argparse.Namespace) -> int:
    from bench.display import make_display
    from bench.launch import launch
    from plots.frame import load
    from plots.report import write_report
    from plots.tables import terminal_table

    suite, runs, _, _ = _prepare(arguments)
    console = Console()
    folder = arguments.out / suite.name
    display = make_display(console)
    try:
        outcome = launch(
            suite.name,
            runs,
            folder,
            data_root=None if arguments.data is None else str(arguments.data),
            command=shlex.join(["greenprune", *sys.argv[1:]]),
            display=display,
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
    from bench.display import duration
    from bench.plan import estimate, state

    suite, runs, data, device = _prepare(arguments)
    console = Console()
    each = estimate(suite, data, device)
    table = Table(title=f"{suite.name}: {suite.dataset}, {suite.model}, on {device}")
    budget = f"{BUDGET_NAMES[suite.cost]} to keep"
    for column in ("#", "run", "method", budget, "seed", "state"):
        table.add_column(column, justify="right" if column in ("#", budget, "seed") else "left")
    todo = 0
    for number, run in enumerate(runs, start=1):
        found = state(run, arguments.out / suite.name)
        what = "to run"
        if found.record is not None:
            what = ("other settings" if found.changed else "done") if found.done else "failed, will be retried"
        todo += not found.done
        s = run.settings
        table.add_row(str(number), run.key, s.method.name, f"{s.budget:.0%}", str(s.seed), what)
    console.print(table)
    if suite.round_to > 1:
        console.print(f"channels in multiples of {suite.round_to}", highlight=False)
    console.print(
        f"{todo} to run, about {duration(each.run_s)} each, {duration(each.run_s * todo)} in all (from "
        f"{suite.training.epochs} epochs of dense training steps of {each.step_s * 1e3:.0f} ms, timed just now)",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def command_report(arguments: argparse.Namespace) -> int:
    from plots.frame import load
    from plots.report import write_report
    from plots.tables import terminal_table

    console = Console()
    results = load(arguments.results)
    unreadable = [f"{problem.where}: {problem.what}" for problem in results.problems if problem.kind == "unreadable"]
    if unreadable and not results.records:
        raise UserError("\n".join(unreadable))
    console.print(terminal_table(results))
    out = arguments.out or arguments.results[0]
    for path in write_report(arguments.results, out):
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    if unreadable:  # one bad file does not hide the others, but it is bad input all the same
        raise UserError("\n".join(unreadable))
    return 0


def command_schema(arguments: argparse.Namespace) -> int:
    from bench.suite import schema

    print(json.dumps(schema(), indent=2))
    return 0


def _prepare(arguments: argparse.Namespace):  # type: ignore[no-untyped-def]
    """Check everything that can be checked before anything is spent."""
    from bench.data import load
    from bench.energy.carbon import check_country
    from bench.errors import did_you_mean
    from bench.plan import plan
    from bench.suite import load_suite

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
    data = load(suite.dataset, arguments.data)
    return suite, plan(suite, data, device), data, device


def resolve_device(name: str) -> str:
    """ "auto" means CUDA where there is any.

    Raises:
        UserError: "cuda" without CUDA.
    """
    import torch

    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError("--device cuda: this PyTorch finds no CUDA device; allowed here: cpu, auto")
    return ("cuda" if available else "cpu") if name == "auto" else name


if __name__ == "__main__":
    sys.exit(main())
