"""What `greenprune prune` was asked for, as a suite of two methods: the unpruned network trained alike, and the pruned one."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from greenprune.bench.data.names import DATASETS
from greenprune.bench.data.options import DataOptions
from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.foreign import shortened
from greenprune.bench.paths import is_utf8, path_of
from greenprune.bench.suite.file import suite_from
from greenprune.bench.suite.overrides import Override, changed, overrides_of, refuse_twice
from greenprune.bench.suite.suite import Suite

RUNS = "runs"
"""Name of the suite, and so of the folder below --out with the records of both runs."""

SUITE_FILE = "prune.toml"

MADE = "made by greenprune prune"
"""In the suite file, by which it is known."""

DENSE = "dense"

FROM_WEIGHTS_RATE, FROM_SCRATCH_RATE = 0.02, 0.1
"""Learning rates of SGD: weights that are given are not to be forgotten in the first epoch."""

ADAM_RATE = 0.1
"""Of these, for optimizers whose steps have a length of their own."""


def suite_for(arguments: argparse.Namespace) -> tuple[Suite, dict[str, Any]]:
    """The suite, checked, and what its file holds, with whole paths.

    Raises:
        UserError: what is wrong with which option, a line each.
    """
    given = (*_options(arguments), *overrides_of(arguments.settings))
    refuse_twice(given)
    _refuse_relied_on(given)
    base: dict[str, Any] = {
        "name": RUNS,
        "description": MADE,
        "methods": [{"name": DENSE}, {"name": arguments.method}],
        "training": {"epochs": arguments.epochs},
    }
    suite = suite_from(base, "greenprune prune", given)
    data, _ = changed(base, given)
    if len(suite.seeds) > 1 or len(suite.budgets) > 1:
        raise UserError("greenprune prune: makes one network; allowed: one seed and one budget; for more write a suite")
    return suite, _with_places(data, suite)


def _refuse_relied_on(overrides: Iterable[Override]) -> None:
    """Raise UserError where one of them changes by what both runs are found in the end."""
    for each in overrides:
        if each.keys == ("name",):
            raise UserError(f"{each.given}: name is that of the folder of both runs; allowed: --out for another folder")
        if each.keys == ("methods",) or (each.keys[:1] == ("methods",) and each.keys[2:] == ("name",)):
            raise UserError(
                f"{each.given}: {'.'.join(each.keys)} is of the unpruned network, or what --method says; allowed: --method, "
                "and options of it as methods.NAME.options.KEY"
            )


def _with_places(data: dict[str, Any], suite: Suite) -> dict[str, Any]:
    """`data` with whole paths of weights and images as they were found from here: its file lies elsewhere.

    Raises:
        UserError: a path is no UTF-8.
    """
    placed = dict(data)
    if suite.weights is not None and Path(suite.weights).exists():
        placed["weights"] = _text_of(Path(suite.weights).absolute(), "weights")
    (entry,) = suite.dataset
    if isinstance(entry, DataOptions) and entry.folder:
        folder = _text_of(Path(entry.folder).resolve(), "dataset.folder")
        placed["dataset"] = {**data["dataset"], "folder": folder}
    return placed


def _text_of(path: Path, key: str) -> str:
    """Raises UserError where it is none that the suite file can hold."""
    if not is_utf8(path):
        raise UserError(
            f"{key} = {shortened(str(path))}: is no UTF-8, and no record can name it; allowed: a path in UTF-8"
        )
    return str(path)


def _options(arguments: argparse.Namespace) -> Iterator[Override]:
    """The keys that the options stand for, each with what the user typed."""
    yield Override(f"MODEL {arguments.model}", ("model",), arguments.model)
    yield Override(f"--data {arguments.data}", ("dataset",), _dataset(arguments))
    yield Override(f"--keep {arguments.keep}", ("budgets",), [arguments.keep])
    yield Override(f"--seed {arguments.seed}", ("seeds",), [arguments.seed])
    for option, key in (
        ("weights", ("weights",)),
        ("task", ("task",)),
        ("cost", ("cost",)),
        ("budget_batch_size", ("budget_batch_size",)),
        ("batch_size", ("training", "batch_size")),
        ("optimizer", ("training", "optimizer")),
    ):
        value = getattr(arguments, option)
        if value is not None:
            yield Override(f"--{option.replace('_', '-')} {value}", key, value)
    rate = arguments.learning_rate
    if rate is None:
        rate = FROM_SCRATCH_RATE if arguments.weights is None else FROM_WEIGHTS_RATE
        rate *= 1 if arguments.optimizer in (None, "sgd") else ADAM_RATE
    yield Override(f"--learning-rate {rate:g}", ("training", "learning_rate"), float(rate))


def _dataset(arguments: argparse.Namespace) -> str | dict[str, Any]:
    """A data set by its name or factory, or a table of a folder. Raises UserError: there is no such folder."""
    given = f"--data {shortened(arguments.data)}"
    place = path_of(arguments.data, given)
    more: dict[str, Any] = {}
    if arguments.image_size is not None:
        more["image_size"] = arguments.image_size
    if arguments.skip_unreadable:
        more["skip_unreadable"] = True
    if place.is_dir():
        if not is_utf8(place.resolve()):
            raise UserError(f"{given}: is no UTF-8, and no record can name it; allowed: a path in UTF-8")
        return {"folder": str(place.resolve()), **more}
    if ":" in arguments.data and not place.exists():
        return {"factory": arguments.data, **more}
    if arguments.data in DATASETS:
        return {"name": arguments.data, **more} if more else arguments.data
    what = "is a file" if place.exists() else "is no folder and no data set"
    raise UserError(
        f"{given}: {what}; allowed: a folder with images, package.module:factory, or one of "
        f"{', '.join(DATASETS)}{did_you_mean(arguments.data, DATASETS)}"
    )
