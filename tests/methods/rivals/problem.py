"""The small problem that both sides train on: handwritten digits of 16 x 16 pixels, ResNet-20, the same batches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from greenprune.bench.data.load import load
from greenprune.bench.models import build
from greenprune.methods import Method
from torch import Tensor, nn

BATCH = 64
CLASSES = 10
RATE = 0.1
DECAY = 5e-4


@dataclass(frozen=True)
class Loader:
    """Batches of an epoch in an order of their own for each pass; what a training loop takes for a DataLoader.

    Attributes:
        images: (N, 3, 16, 16) float; labels: (N,).
        generator: of the order; None: as they lie.
    """

    images: Tensor
    labels: Tensor
    generator: torch.Generator | None

    def __len__(self) -> int:
        return len(self.images) // BATCH

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.generator is None:
            yield from zip(self.images.split(256), self.labels.split(256), strict=True)
            return
        order = torch.randperm(len(self.images), generator=self.generator)
        for i in range(len(self)):
            own = order[i * BATCH : (i + 1) * BATCH]
            yield self.images[own], self.labels[own]


def loaders(seed: int) -> tuple[Loader, Loader]:
    """For training and for testing."""
    data = load("digits")

    def small(images: Tensor) -> Tensor:
        pixels = F.interpolate(images.float() / 255.0, size=16, mode="area")
        return (pixels - 0.3) / 0.35

    generator = torch.Generator().manual_seed(seed)
    return (
        Loader(small(data.train.images), data.train.targets, generator),
        Loader(small(data.test.images), data.test.targets, None),
    )


@contextmanager
def modules(stand_ins: dict[str, Any], folder: Path) -> Iterator[None]:
    """Inside, `folder` is searched for modules, and `stand_ins` are found by these names. Nothing else is forgotten after."""
    before = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def network(seed: int) -> nn.Module:
    return build("resnet20", CLASSES, seed=seed)


def train(
    method: Method,
    model: nn.Module,
    batches: Loader,
    epochs: int,
    rate: Callable[[int], float],
    *,
    nesterov: bool,
) -> nn.Module:
    """A training by our method with SGD.

    Args:
        rate: learning rate of a step.
    """
    trained = method.prepare(model, batches.images[:2])
    groups = method.param_groups(trained)
    optimizer = torch.optim.SGD(groups, lr=RATE, momentum=0.9, nesterov=nesterov, weight_decay=DECAY)
    step = 0
    for _ in range(epochs):
        trained.train()
        for x, y in batches:
            for group in optimizer.param_groups:
                group["lr"] = rate(step)
            F.cross_entropy(trained(x), y).backward()
            method.after_backward()
            optimizer.step()
            optimizer.zero_grad()
            method.after_step(optimizer)
            step += 1
    return method.finish()


@torch.no_grad()
def accuracy(model: nn.Module, batches: Loader) -> float:
    """In percent."""
    model.eval()
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in batches)
    return 100.0 * right / len(batches.images)


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's."""
    ranks = [t.argsort().argsort().double() for t in (one, other)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def largest_difference(one: Tensor, other: Tensor) -> float:
    """Relative to the largest value."""
    return float((one - other).abs().max() / other.abs().max())
