"""A small data set and network for every task, and training on it as the harness does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from greenprune.bench.data.batches import Batches
from greenprune.bench.data.data import Dataset
from greenprune.bench.data.splits import Split
from greenprune.bench.suite.recipe import Training
from greenprune.bench.tasks.catalogue import make_task
from greenprune.bench.tasks.task import Task
from greenprune.bench.training.loop import Trained, train
from greenprune.methods import registry
from torch import Tensor, nn

from tests.bench.training.test_loop import Meter

CPU = torch.device("cpu")
OUTPUTS = {"classification": 10, "multilabel": 4, "segmentation": 3, "regression": 2}
"""How many each task has here."""

SIDE = 16


def targets_of(name: str, images: Tensor) -> Tensor:
    """Something that the images tell."""
    count = len(images)
    bright = images.float().mean(1) / 255  # (N, H, W)
    match name:
        case "multilabel":
            return (bright.flatten(1)[:, :4] > 0.5).float()
        case "segmentation":
            return (bright > 0.4).long() + (bright > 0.6).long()
        case "regression":
            return torch.stack([bright.mean((1, 2)), bright.std((1, 2))], dim=1)
    return torch.arange(count) % 10


def dataset(name: str) -> Dataset:
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        images = torch.randint(0, 256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
        return Split(images, targets_of(name, images))

    middle = (0.5, 0.5, 0.5)
    return Dataset(name, OUTPUTS[name], split(32), split(16), split(16), middle, middle)


class Pixels(nn.Module):
    """A class for each pixel, and a second output beside it, as torchvision's networks give them."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        )  # fmt: skip
        self.head, self.second = nn.Conv2d(16, classes, 1), nn.Conv2d(16, classes, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = self.body(x)
        return {
            name: nn.functional.interpolate(head(found), scale_factor=2.0, mode="bilinear")
            for name, head in (("out", self.head), ("aux", self.second))
        }


def plain(outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, outputs),
    )  # fmt: skip


def network(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Pixels(OUTPUTS[name]) if name == "segmentation" else plain(OUTPUTS[name])


class Alone(nn.Module):
    """The output `out` of a network alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)["out"]


def trained(
    task: Task,
    of: str,
    method: str,
    epochs: int = 3,
    start: nn.Module | None = None,
    augment: Sequence[str] = (),
) -> tuple[Trained, Dataset]:
    """Train for `task`, whose data and, without `start`, network are those of the task called `of`."""
    data = dataset(of)
    recipe: dict[str, Any] = {"epochs": epochs, "batch_size": 8, "learning_rate": 0.05, "precision": "float32"}
    batches = Batches(
        data.train, batch_size=8, mean=data.mean, std=data.std, device="cpu", seed=1, augment=augment, void=task.void
    )
    pruner = registry()[method](keep=0.6, steps=epochs * len(batches), tolerance=0.2, seed=1)
    task.begin(CPU, data.classes, (3, SIDE, SIDE))
    meter: Any = Meter()
    done = train(pruner, start or network(of), data, batches, task, Training(**recipe), CPU, meter)
    return done, data


def made(name: str) -> Task:
    return make_task(name)
