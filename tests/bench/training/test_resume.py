"""A training that was interrupted goes on, and ends bit for bit as if nothing had happened: every method, at any step."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from greenprune.bench.data.batches import Batches
from greenprune.bench.energy import Reading
from greenprune.bench.energy.reading import SourceReading
from greenprune.bench.suite.recipe import Training
from greenprune.bench.tasks.catalogue import make_task
from greenprune.bench.training.keeper import Keeper, StoppedError
from greenprune.bench.training.loop import Trained, train
from greenprune.methods import Method, registry
from torch import Tensor, nn

from tests.bench.training.test_loop import BATCH_SIZE, BATCHES, dataset
from tests.methods.networks import SmallResidual

METHODS = sorted(registry())
EPOCHS = 4
STEPS = EPOCHS * BATCHES
IDENTITY = {"settings": "these"}


class Window:
    """Takes a joule for every second step of its life, so to speak: one for each time that it is asked or ended."""

    def __init__(self) -> None:
        self.reading = self.so_far()

    def so_far(self) -> Reading:
        source = SourceReading(name="cpu", kind="modelled", energy_j=1.0, low_j=0.5, high_j=2.0)
        return Reading(name="training", duration_s=1.0, sources=(source,))

    def end(self) -> Reading:
        return self.reading

    def paused(self) -> Window:
        return self

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None: ...


class Meter:
    def window(self, name: str) -> Window:
        return Window()

    def begin(self, name: str) -> Window:
        return Window()

    def power_w(self) -> None: ...


class Dice(nn.Module):
    """Draws from every generator that a network might draw from."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and torch.is_grad_enabled():
            x = x * (1.0 + 0.01 * (random.random() + float(np.random.rand())))
        return nn.functional.dropout(x, 0.1, self.training)


def network() -> nn.Module:
    """With residual branches, a generator at work, and in the memory format of a run."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(Dice(), SmallResidual()).to(memory_format=torch.channels_last)


def run(
    name: str | type[Method], folder: Path | None, stop: int | None = None, interval_s: float = 0.0, **recipe_of: Any
) -> Trained:
    """Train from the last checkpoint in `folder` on, as a fresh process would; `stop`: until so many steps are done."""
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    data, cpu = dataset(), torch.device("cpu")
    batches = Batches(data.train, batch_size=BATCH_SIZE, mean=data.mean, std=data.std, device=cpu, seed=1)
    recipe_of = {"learning_rate": 0.05, **recipe_of}
    recipe = Training(epochs=EPOCHS, batch_size=BATCH_SIZE, precision="float32", **recipe_of)
    made = registry()[name] if isinstance(name, str) else name
    keeper = None
    if folder is not None:
        keeper = Keeper(folder, IDENTITY, interval_s=interval_s, started_at="now")

    class Stopped(made):  # type: ignore[misc, valid-type]
        def after_step(self, optimizer: torch.optim.Optimizer) -> None:
            super().after_step(optimizer)
            if self.step == stop and keeper is not None:
                keeper.stop = "stopped"

    method = Stopped(keep=0.6, steps=STEPS, tolerance=0.1, seed=1)
    state = next(iter(keeper.found), None) if keeper else None
    meter: Any = Meter()
    return train(
        method, network(), data, batches, make_task("classification"), recipe, cpu, meter, keeper=keeper, state=state
    )


def same(a: Trained, b: Trained) -> bool:
    ours, theirs = a.model.state_dict(), b.model.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def entries(trained: Trained) -> list[tuple[Any, ...]]:
    ledger = [(e.phase, e.samples, e.forward_macs) for e in trained.ledger.stored().entries]
    return [*ledger, *(dataclasses.astuple(_Entry(e)) for e in trained.epochs)]


@dataclasses.dataclass
class _Entry:
    epoch: Any

    def __post_init__(self) -> None:
        self.epoch = self.epoch.model_dump(exclude={"duration_s"})


@pytest.mark.parametrize("name", METHODS)
def test_it_ends_as_if_nothing_had_happened(name: str, tmp_path: Path) -> None:
    undisturbed = run(name, None)
    for stop in (2, 9, 13, STEPS):
        with pytest.raises(StoppedError, match="stopped; saved after a whole step"):
            run(name, tmp_path, stop, interval_s=1e9)
    again = run(name, tmp_path)
    assert same(again, undisturbed)
    assert entries(again) == entries(undisturbed)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("name", ["gated", "magnitude"])
def test_so_it_does_with_the_two_means_that_adam_keeps(name: str, optimizer: str, tmp_path: Path) -> None:
    recipe_of = {"optimizer": optimizer, "learning_rate": 0.01, "decay_norms_and_biases": False}
    undisturbed = run(name, None, **recipe_of)
    assert not same(undisturbed, run(name, None)), "the optimizer makes no difference"
    for stop in (2, 9, 13, STEPS):  # before the network shrinks, and after
        with pytest.raises(StoppedError):
            run(name, tmp_path, stop, interval_s=1e9, **recipe_of)
    again = run(name, tmp_path, **recipe_of)
    assert same(again, undisturbed)
    assert entries(again) == entries(undisturbed)


@pytest.mark.parametrize("name", ["gated", "magnitude"])
def test_so_it_does_with_a_moving_average_and_parts_of_batches(name: str, tmp_path: Path) -> None:
    recipe_of = {
        "ema_decay": 0.9, "accumulate_steps": 2, "clip_gradient_norm": 1.0, "schedule": "one-cycle", "layer_decay": 0.9,
    }  # fmt: skip
    undisturbed = run(name, None, **recipe_of)
    assert not same(undisturbed, run(name, None, **recipe_of | {"ema_decay": None})), "the average makes no difference"
    for stop in (2, 13, STEPS):  # before the network shrinks, and after
        with pytest.raises(StoppedError):
            run(name, tmp_path, stop, interval_s=1e9, **recipe_of)
    again = run(name, tmp_path, **recipe_of)
    assert same(again, undisturbed)
    assert entries(again) == entries(undisturbed)
