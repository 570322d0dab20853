"""The command `greenprune prune`: one network made smaller, beside the unpruned one, and the files that serve it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from greenprune.bench import terminal
from greenprune.bench.cli.arguments import data_of, text_path, typed
from greenprune.bench.engines.names import LOCAL
from greenprune.bench.errors import UserError


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    command.set_defaults(call=command_prune)
    command.add_argument(
        "model", metavar="MODEL", help="resnet20, torchvision/<name>, timm/<name>, hf/<id or folder>, or module:factory"
    )
    command.add_argument(
        "--data", required=True, metavar="DIR", help="a folder with images, module:factory, or the name of a data set"
    )
    command.add_argument(
        "--weights", metavar="W", help="to start from: a file, the folder of a finished run, or DEFAULT (none: scratch)"
    )
    command.add_argument("--keep", type=float, default=0.5, metavar="SHARE", help="of the cost (0.5)")
    command.add_argument(
        "--cost",
        metavar="KIND",
        help="what is kept: macs (default), params, latency (time) or energy of inference, or auto: energy or else time",
    )
    command.add_argument(
        "--budget-batch-size", type=int, metavar="N", help="images a pass that a budget of time or energy is meant for"
    )
    command.add_argument("--epochs", type=int, default=10, metavar="N", help="passes over the training images (10)")
    command.add_argument("--batch-size", type=int, metavar="N", help="images per step of the training (128)")
    command.add_argument("--optimizer", metavar="NAME", help="sgd (default), adamw, adam")
    command.add_argument(
        "--learning-rate",
        type=float,
        metavar="R",
        help="of the warmed-up training (sgd: 0.02 from weights, 0.1 from scratch; else a tenth)",
    )
    command.add_argument("--image-size", type=int, metavar="N", help="height and width in pixels")
    command.add_argument("--task", metavar="TASK", help="classification (default), segmentation, ..., or module:Task")
    command.add_argument("--method", default="gated", metavar="NAME", help="what prunes (gated)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (0)")
    command.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="any key of a suite file"
    )
    command.add_argument("--skip-unreadable", action="store_true", help="leave out pictures that cannot be read")
    command.add_argument("--out", type=text_path, required=True, metavar="DIR", help="where everything goes")
    command.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")


def command_prune(arguments: argparse.Namespace) -> int:
    """Train both, measure them side by side, write what serves the smaller one, and say what it is worth.

    Returns:
        0; 1: a run failed, the network broke its budget, or one of the files could not be written.
    """
    from greenprune.bench.prune.request import DENSE, RUNS, SUITE_FILE, suite_for

    if arguments.method == DENSE:
        raise UserError(f"--method {DENSE}: prunes nothing; allowed: gated, or another method (greenprune schema)")
    suite, data = suite_for(arguments)
    from greenprune.bench.cli import run
    from greenprune.bench.export.place import refuse_overwriting
    from greenprune.bench.prune.deliver import NAMES
    from greenprune.bench.records.stored import write_atomically
    from greenprune.bench.run.stop import stoppable  # late: what is wrong with the options is said without torch
    from greenprune.bench.suite.written import toml_text

    out: Path = arguments.out
    _refuse_among_images(out, data["dataset"])
    path = out / SUITE_FILE
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"--out {out}: cannot be made ({e.strerror or e}); allowed: a folder") from None
    text = toml_text(data)
    refuse_other(out, path, text)
    if not path.is_file():  # else it was a call like this one that wrote what lies there
        refuse_overwriting(out, (SUITE_FILE, RUNS, *NAMES), "greenprune prune")
    write_atomically(path, text)
    as_of_run = argparse.Namespace(
        suite=str(path), settings=[], seeds=None, name=None, data=None, out=out, device=arguments.device, only=None,
        jobs=1, engine=LOCAL, engine_config=None, skip_measure=False, remake=True, country=None, region=None, cloud=None,
        gco2e_per_kwh=None, pue=None,
    )  # fmt: skip
    with stoppable(None):
        code = run.run_suite(as_of_run, brief=True)
    if code:
        return code
    from greenprune.bench.prune.both import Both
    from greenprune.bench.prune.deliver import deliver
    from greenprune.bench.prune.screen import screen

    both = Both.read(out / RUNS, suite.methods[1].label)
    (images,) = data_of(suite, None).values()
    delivered = deliver(both, out, images.class_names, typed())
    terminal.console().print(screen(both, out, delivered.files, delivered.notes))
    for problem in delivered.problems:
        terminal.complain(problem)
    return 0 if both.pruned.valid and not delivered.problems else 1


def _refuse_among_images(out: Path, dataset: str | dict[str, Any]) -> None:
    """Raise UserError where what is made would lie among the pictures, and be taken for a class of them the next time."""
    folder = dataset.get("folder") if isinstance(dataset, dict) else None
    if folder and Path(os.path.realpath(out)).is_relative_to(os.path.realpath(folder)):
        raise UserError(f"--out {out}: lies in the folder of the images, {folder}; allowed: a folder outside of it")


def refuse_other(out: Path, path: Path, text: str) -> None:
    """Raise UserError where `out` holds what another call made, which the files of this one would be mixed with.

    A call that was refused before it began a run has made its suite file alone, which the corrected one writes over.
    """
    from greenprune.bench.prune.request import MADE, RUNS

    there = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else text
    if there != text and (MADE not in there or (out / RUNS).exists()):
        raise UserError(
            f"--out {out}: holds what greenprune prune made with other options ({path.name}); allowed: another folder, or "
            "delete this one"
        )
