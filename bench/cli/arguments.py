"""Arguments that several commands take, and what they stand for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from greenprune.bench.errors import UserError

if TYPE_CHECKING:
    from greenprune.bench.data.data import Dataset
    from greenprune.bench.suite.suite import Suite


def suite_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("suite", metavar="SUITE", help="name of a shipped suite, or path of a suite.toml")
    command.add_argument(
        "--data", type=Path, metavar="DIR", help="data folder (default: GREENPRUNE_DATA, else a cache)"
    )
    command.add_argument("--out", type=Path, metavar="DIR", default=Path("results"), help="results folder (./results)")
    command.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")


def run_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--only", nargs="+", metavar="METHOD", help="run only these methods (labels of the suite)")
    command.add_argument("--country", metavar="ISO3", help="whose grid intensity to use for CO2, e.g. FRA")


def jobs_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="runs at a time, each on its share of the cores (1); on a CPU many runs of one thread are fastest",
    )


def more_suites(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "more", nargs="*", metavar="SUITE", help="further suites, one after the other; paper means six"
    )


def data_of(suite: Suite, root: Path | None) -> Dataset:
    """The data of a suite, with as many training images as it asks for."""
    from greenprune.bench.data.data import limited, load

    data = load(suite.dataset, root)
    return data if suite.train_images is None else limited(data, suite.train_images)


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
