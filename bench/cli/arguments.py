"""Arguments that several commands take, and what they stand for."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from greenprune.bench.cli.place import at_place, place_arguments
from greenprune.bench.engines.names import ENGINES, LOCAL
from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.foreign import shortened, visible
from greenprune.bench.paths import is_utf8

if TYPE_CHECKING:
    from greenprune.bench.data.data import Dataset
    from greenprune.bench.plan.plan import Run
    from greenprune.bench.run.shares import Jobs, Shares
    from greenprune.bench.suite.overrides import Override
    from greenprune.bench.suite.suite import Suite


def suite_arguments(command: argparse.ArgumentParser) -> None:
    """A suite, what to change in it, and where everything lies."""
    command.add_argument("suite", metavar="SUITE", help="name of a shipped suite, or path of a suite.toml")
    command.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a key of the suite: training.epochs=24, budgets=[0.3,0.5], methods.gated.options.drift=5",
    )
    command.add_argument("--seeds", type=int, nargs="+", metavar="N", help="instead of the suite's seeds")
    command.add_argument(
        "--name", metavar="NAME", help="instead of the suite's name, which is that of its results folder"
    )
    command.add_argument(
        "--data", type=text_path, metavar="DIR", help="data folder (default: GREENPRUNE_DATA, else a cache)"
    )
    command.add_argument(
        "--skip-unreadable", action="store_true", help="leave out pictures that cannot be read, and say which"
    )
    command.add_argument(
        "--out", type=text_path, metavar="DIR", default=Path("results"), help="results folder (./results)"
    )
    command.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")


def run_arguments(command: argparse.ArgumentParser) -> None:
    """More suites, and which runs of them."""
    command.add_argument("more", nargs="*", metavar="SUITE", help="further suites, one after the other")
    command.add_argument("--only", nargs="+", metavar="METHOD", help="run only these methods (labels of the suite)")
    place_arguments(command)


def jobs_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--jobs",
        type=jobs,
        default=1,
        metavar="N",
        help="runs at a time (1): on GPUs each on one of its own with the cores next to it, on a CPU each on its share of the "
        "cores, where many runs of one thread are fastest; auto: as many as there are GPUs, on a CPU 1",
    )


def engine_arguments(command: argparse.ArgumentParser) -> None:
    """Where runs are done."""
    command.add_argument(
        "--engine",
        default=LOCAL,
        metavar="NAME",
        help=f"where runs are done: {'; '.join(f'{name}: {where}' for name, where in ENGINES.items())} ({LOCAL})",
    )
    command.add_argument(
        "--engine-config", type=Path, metavar="FILE.toml", help="options of the engine, under their own names"
    )


def text_path(text: str) -> Path:
    """A path that records can name."""
    if not is_utf8(text):
        raise argparse.ArgumentTypeError(
            f"{shortened(text)} is no UTF-8, and no record can name it; allowed: a path in UTF-8"
        )
    return Path(text)


def jobs(text: str) -> Jobs:
    """ "auto", or a whole number."""
    if text == "auto":
        return "auto"
    if not re.fullmatch(r"[+-]?\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number; allowed: auto, or an integer at least 1")
    return int(text)


def shares_for(jobs: Jobs, device: str, gpus: int = 1) -> Shares:
    """What each of `jobs` runs at a time on `device` has to itself; `gpus`: of a run, where `device` is "cuda". Raises
    UserError."""
    from greenprune.bench.run.shares import shares_of

    if device == "cpu" or jobs == 1:
        return shares_of(jobs, device)
    import torch

    kind = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return shares_of(jobs, device, kind=kind, gpus=gpus)


def typed() -> str:
    """The command that this process was started with, as records have it."""
    return visible(shlex.join(["greenprune", *sys.argv[1:]]))


def suite_of(arguments: argparse.Namespace) -> Suite:
    """The suite that was named, with the changes that were asked for. Raises UserError.

    Whether its methods can keep its budgets is asked of those alone that the command is about.
    """
    from greenprune.bench.suite.file import load_suite

    suite = load_suite(arguments.suite, overrides_of(arguments), getattr(arguments, "only", None))
    if not getattr(arguments, "skip_unreadable", False):
        return suite
    from greenprune.bench.data.options import skipping_unreadable

    return suite.model_copy(update={"dataset": tuple(map(skipping_unreadable, suite.dataset))})


def overrides_of(arguments: argparse.Namespace) -> tuple[Override, ...]:
    """The changes that were asked for. Raises UserError."""
    from greenprune.bench.suite import overrides

    return overrides.overrides_of(arguments.settings, arguments.seeds, arguments.name)


@dataclass(frozen=True)
class Prepared:
    """A suite of which everything was checked that can be before anything is spent."""

    suite: Suite
    runs: list[Run]
    everything: list[Run]  # with those of the methods that --only leaves out
    data: dict[str, Dataset]
    device: str


def prepare(arguments: argparse.Namespace) -> Prepared:
    """Check everything that can be checked before anything is spent. Raises UserError."""
    whole = at_place(suite_of(arguments), arguments)
    suite = narrowed(whole, arguments)
    from greenprune.bench.plan.plan import plan  # late: it imports torch, and there may be no such suite

    planned = getattr(arguments, "planned", False)
    device = assumed_device(arguments) if planned else device_of(arguments)
    data = data_of(suite, arguments.data, planned=planned)
    runs = plan(suite, data, device)
    return Prepared(suite, runs, plan(whole, data, device) if arguments.only else runs, data, device)


def narrowed(suite: Suite, arguments: argparse.Namespace) -> Suite:
    """The suite with the methods of `--only`. Raises UserError."""
    if arguments.only:
        labels = [m.label for m in suite.methods]
        for name in arguments.only:
            if name not in labels:
                raise UserError(
                    f"--only {name}: suite {suite.name} has no such method; allowed: {', '.join(labels)}"
                    f"{did_you_mean(name, labels)}"
                )
        suite = suite.model_copy(update={"methods": tuple(m for m in suite.methods if m.label in arguments.only)})
    return suite


def each_suite(call: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """`call` for each suite that was named, one after the other; returns the largest of their exit codes."""

    def calls(arguments: argparse.Namespace) -> int:
        values = vars(arguments)
        suites = [argparse.Namespace(**values | {"suite": name}) for name in (arguments.suite, *arguments.more)]
        folders: dict[str, str] = {}
        for each in suites if len(suites) > 1 else ():
            name = suite_of(each).name
            if name in folders:
                raise UserError(
                    f"{each.suite}: its name, {name}, is that of {folders[name]} too; allowed: one suite for each "
                    "results folder"
                )
            folders[name] = each.suite
        if len(suites) > 1:
            for each in suites:  # what is wrong with the last one is not to be found out after the others have run
                prepare(each)
        return max([call(each) for each in suites])

    return calls


def data_of(suite: Suite, root: Path | None, *, planned: bool = False) -> dict[str, Dataset]:
    """The data sets of a suite by name, with as many training images as it asks for. Raises UserError.

    Args:
        planned: those that are not here are taken as they were published, without their images; nothing is downloaded.
    """
    from greenprune.bench.data.data import limited
    from greenprune.bench.data.load import is_there, load
    from greenprune.bench.data.options import label_of
    from greenprune.bench.data.place import existing_root
    from greenprune.bench.data.published import as_published

    data = {}
    for entry in suite.dataset:
        known = as_published(entry) if planned and not is_there(entry, root) else None
        if known is not None:
            existing_root(root)  # a mistyped one is refused
        data[label_of(entry)] = load(entry, root) if known is None else known
    count = suite.train_images
    return data if count is None else {name: limited(each, count) for name, each in data.items()}


def device_of(arguments: argparse.Namespace) -> str:
    """Where the runs are computed: as the engine has it, where it has machines of its own. Raises UserError."""
    if getattr(arguments, "engine", LOCAL) == LOCAL:
        return resolve_device(arguments.device)
    from greenprune.bench.engines.catalogue import options_of

    return options_of(arguments.engine, arguments.engine_config).device(arguments.device) or resolve_device(
        arguments.device
    )


def assumed_device(arguments: argparse.Namespace) -> str:
    """That of a plan, which may be made where there is no GPU. Raises UserError."""
    here = arguments.engine == LOCAL and arguments.device == "cuda"
    return "cuda" if arguments.gpu is not None or here else device_of(arguments)


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
