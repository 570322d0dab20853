"""A short training through a method's interface alone, as the harness does it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from greenprune.bench.training.ledger import Ledger
from greenprune.bench.training.schedule import cycles, phase_at, rate_at
from greenprune.methods import find
from torch import nn

from tests.methods.networks import batches

STEPS = 12
BATCH = 4
SIZES = {"vgg16_bn": 32, "torchvision/mobilenet_v2": 32}  # pixels that the network needs; 16 elsewhere


def size_of(model: str) -> int:
    return SIZES.get(model, 16)


def run(
    name: str,
    model: nn.Module,
    keep: float,
    *,
    seed: int = 0,
    steps: int = STEPS,
    size: int = 16,
    batch: int = BATCH,
    learning_rate: float = 0.05,
    options: dict[str, Any] | None = None,
    ledger: Ledger | None = None,
) -> tuple[nn.Module, Any]:
    """The result and the method."""
    torch.manual_seed(seed)
    method_class = find(name)
    method = method_class(method_class.Options(**(options or {})), keep=keep, steps=steps, seed=seed)
    data = batches(steps, batch=batch, size=size)
    trained = method.prepare(model, data[0][0][:2])
    groups = [{"learning_rate_scale": 1.0, **g} for g in method.param_groups(trained)]
    optimizer = torch.optim.SGD(groups, lr=learning_rate, momentum=0.9, nesterov=True)
    phases = method_class.phases(method.options)
    rates = cycles(phases, steps, learning_rate, 3)
    ledger = ledger or Ledger(steps * batch)
    trained.train()
    for step, (x, y) in enumerate(data):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(rates, step, "cosine") * group["learning_rate_scale"]
        (F.cross_entropy(trained(x), y) + method.penalty()).backward()
        method.after_backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(optimizer)
        ledger.charge(phase_at(phases, steps, step).name, samples=len(x), forward_macs=0)
    assert method.step == steps
    return method.finish(), method
