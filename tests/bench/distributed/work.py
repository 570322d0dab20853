"""A training with each method, and with what else a recipe may say; by one process, or by several ranks.

`python -m tests.bench.distributed.work FOLDER LENGTH CASE...`, started by torchrun's launcher, writes what each rank found into
the folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from greenprune.bench import models
from greenprune.bench.data.batches import Batches
from greenprune.bench.data.data import Dataset
from greenprune.bench.data.splits import Split
from greenprune.bench.suite.recipe import Training
from greenprune.bench.tasks.catalogue import make_task
from greenprune.bench.training import loop
from greenprune.bench.training.step import Stepper
from greenprune.methods import Method, registry
from greenprune.methods.dense import Dense
from greenprune.methods.ranks import together
from torch import Tensor, nn
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tests.bench.training.test_loop import Meter
from tests.methods.networks import SmallResidual


class Exact(nn.Module):
    """What comes after it computes in float64: rounding, which a training magnifies step by step, is not what is compared."""

    def forward(self, x: Tensor) -> Tensor:
        return x.double()


class Plugin(Dense):
    """A user's own: pulls all weights a little, and draws a number in each step."""

    name = "plugin"

    def after_backward(self) -> None:
        pull = float(torch.rand(()))
        for p in self._model.parameters():
            if p.grad is not None:
                p.grad.add_(p.detach(), alpha=1e-3 * pull)


@dataclass(frozen=True)
class Length:
    """How long is trained, and on what.

    Attributes:
        steps: `epochs` times the batches of an epoch.
        network: "small", or one of the suite's.
    """

    epochs: int
    batches: int
    batch_size: int
    side: int
    network: str = "small"

    @property
    def steps(self) -> int:
        return self.epochs * self.batches


LENGTHS = {
    "test": Length(3, 4, 16, 10),
    "long": Length(10, 5, 32, 16, "resnet20"),
}


def dataset(length: Length) -> Dataset:
    """Noise, one image more than the batches of an epoch hold, and 9 to evaluate on, which ranks share unequally."""
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        images = torch.randint(0, 256, (count, 3, length.side, length.side), dtype=torch.uint8, generator=generator)
        return Split(images, torch.arange(count) % 10)

    middle = (0.5, 0.5, 0.5)
    return Dataset("noise", 10, split(length.batches * length.batch_size + 1), split(9), split(1), middle, middle)


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        exact: in float64, or in what the recipe says.
    """

    method: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    exact: bool = True


METHODS = (*sorted(registry()), "plugin")

CASES = {
    **{name: Case(name) for name in METHODS},
    "per_sample": Case("gated", options={"execution": "per_sample"}),
    "parts": Case("gated", {"accumulate_steps": 2, "clip_gradient_norm": 1.0, "ema_decay": 0.9}),
    "adamw": Case("magnitude", {"optimizer": "adamw", "ema_decay": 0.9, "ema_evaluate": False, "augment": ("mixup",)}),
    "bfloat16": Case("dense", {"precision": "bfloat16"}, exact=False),
    **{f"{name} in float32": Case(name, {"channels_last": True}, exact=False) for name in METHODS},
}


@dataclass
class Found:
    losses: list[float]
    scores: list[float | None]
    ledger: list[tuple[Any, ...]]
    weights: dict[str, Tensor]
    said: list[float | None]


def work(case: Case, length: Length) -> Found:
    """Train as one process does, or as one of several ranks."""
    losses: list[float] = []

    class Told(Stepper):
        def __call__(self, x: Tensor, y: Tensor, rate: float) -> tuple[Tensor, Tensor]:
            loss, outputs = super().__call__(x, y, rate)
            losses.append(float(loss))
            return loss, outputs

    torch.manual_seed(1)
    torch.use_deterministic_algorithms(True)
    data, cpu = dataset(length), torch.device("cpu")
    shape = (3, length.side, length.side)
    network: nn.Module = (
        SmallResidual() if length.network == "small" else models.build(length.network, 10, seed=1, shape=shape)
    )
    asked = {"precision": "float32", "learning_rate": 0.01, "channels_last": False, **case.recipe}
    recipe = Training(epochs=length.epochs, batch_size=length.batch_size, **asked)
    if case.exact:
        network = nn.Sequential(Exact(), network.double())
    if recipe.channels_last:
        network = network.to(memory_format=torch.channels_last)
    batches = Batches(
        data.train, batch_size=length.batch_size, mean=data.mean, std=data.std, device=cpu, seed=1, classes=10,
        augment=recipe.augment, channels_last=recipe.channels_last, share=(together.rank(), together.size()),
    )  # fmt: skip
    made: type[Method] = Plugin if case.method == "plugin" else registry()[case.method]
    method = made(made.Options(**case.options), keep=0.6, steps=length.steps, tolerance=0.1, seed=1)
    torch.manual_seed(1)
    meter: Any = Meter()
    was, loop.Stepper = loop.Stepper, Told  # type: ignore[misc]
    try:
        trained = loop.train(method, network, data, batches, make_task("classification"), recipe, cpu, meter)
    finally:
        loop.Stepper = was  # type: ignore[misc]
        torch.use_deterministic_algorithms(False)
    return Found(
        losses,
        [score for entry in trained.epochs for score in (entry.loss, entry.train_score, entry.holdout_score)],
        [(entry.phase, entry.samples, entry.forward_macs) for entry in trained.ledger.stored().entries],
        dict(trained.model.state_dict()),
        [method.predicted_cost, method.masked_max_abs_diff],
    )


def by_ranks(folder: Path, length: str, names: Iterable[str], ranks: int = 2) -> dict[str, list[Found]]:
    """What each of several ranks found, by case; they are started once."""
    options = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "max_restarts": 0}
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[3])
    names = list(names)
    try:
        launch: Any = elastic_launch(LaunchConfig(1, 1, ranks, run_id="work", **options), sys.executable)
        launch("-W", "ignore", "-m", "tests.bench.distributed.work", str(folder), length, *names)
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return {
        name: [Found(**torch.load(folder / f"{name}.{rank}.pt", weights_only=False)) for rank in range(ranks)]
        for name in names
    }


def alone(name: str, length: str) -> Found:
    """What one process finds, with as many threads as a rank has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return work(CASES[name], LENGTHS[length])
    finally:
        torch.set_num_threads(threads)


def main(folder: str, length: str, *names: str) -> None:
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    for name in names:
        torch.save(vars(work(CASES[name], LENGTHS[length])), Path(folder) / f"{name}.{together.rank()}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
