"""What a run starts from: weights drawn at its seed, published ones, those of a file, or those of a finished run."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from greenprune.bench import models
from greenprune.bench.data.data import Dataset
from greenprune.bench.foreign import shortened
from greenprune.bench.models.kinds.kind import SMALL, SUFFIXES, Pretrained, Shape
from greenprune.bench.models.named import kind_of
from greenprune.bench.models.weights import fit, read_tensors
from greenprune.bench.paths import path_of
from greenprune.bench.records.load import read_finished
from greenprune.bench.records.record import MODEL_FILE
from greenprune.bench.records.store import preprocessing_of
from greenprune.bench.suite.recipe import Training
from greenprune.bench.training.layers import Parts
from greenprune.bench.training.optimizers import factory_of
from torch import nn


def start_of(model: str, weights: str | None, shape: Shape = SMALL) -> Pretrained | None:
    """The weights that a suite names; None where they are drawn.

    Args:
        model: of the suite.
        weights: path of a file of tensors or of the folder of a finished run, else a name of published weights.
        shape: channels, height and width of an image.

    Raises:
        UserError: they are not there, cannot be read or had, or were altered; names the key and the value.
    """
    if weights is None:
        return None
    path = path_of(weights, f'weights = "{shortened(weights)}"')
    return _start(model, weights, path, shape, _stamp(path))


def _stamp(path: Path) -> tuple[float, ...]:
    """Of the file that is read: another one is another start."""
    place = path / MODEL_FILE if path.is_dir() else path
    return (place.stat().st_mtime, place.stat().st_size) if place.is_file() else ()


@lru_cache(maxsize=4)
def _start(model: str, weights: str, path: Path, shape: Shape, _: tuple[float, ...]) -> Pretrained:
    wanted = f'weights = "{weights}"'
    if path.is_dir():
        return _of_run(path, wanted)
    if path.suffix in SUFFIXES:
        return Pretrained(read_tensors(path, wanted), weights)
    return kind_of(model).pretrained(model, weights, shape)


def _of_run(folder: Path, wanted: str) -> Pretrained:
    """Those of a finished run, as they were stored: its record and its network have the check sums that they had."""
    read_finished(folder, wanted)
    path = folder / MODEL_FILE
    return Pretrained(read_tensors(path, wanted), weights_name(folder), preprocessing_of(path))


def weights_name(folder: Path) -> str:
    """A run for a sentence: the names of its suite and its own."""
    return "/".join(folder.absolute().parts[-2:])


def begin(model: nn.Module, start: Pretrained | None, classes: int, shape: Shape) -> tuple[str, ...]:
    """Give a fresh network the weights to start from, in place; what a reader has to know of it.

    Raises:
        UserError: they do not fit.
    """
    return () if start is None else (f"pretrained: starts from {start.source}", *fit(model, start, classes, shape))


def prepared(data: Dataset, start: Pretrained | None) -> Dataset:
    """The data with its images normalised as those that the weights were trained on, where that is known, the suite does not
    say how, and they do not come as floats.
    """
    known = None if start is None else start.preprocessing
    if known is None or data.given or data.floats or len(known.mean) != data.shape[0]:
        return data
    return replace(data, mean=known.mean, std=known.std)


def refuse_unfit(model: str, weights: str | None, recipe: Training, classes: int, shape: Shape) -> None:
    """See before anything is spent that the weights are there and fit, and that there is what the recipe names.

    Raises:
        UserError: it is not.
    """
    factory_of(recipe)
    start = start_of(model, weights, shape)
    if start is None and not recipe.freeze:
        return
    network = models.build(model, classes, seed=0, shape=shape)
    begin(network, start, classes, shape)
    Parts(network, recipe, classes)
