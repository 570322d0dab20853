"""Two processes of one training, played one after the other: each has its own images, and they share their gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from greenprune.methods import find
from torch import nn

from tests.methods.networks import SmallResidual, batches


def train_in_two(name: str, steps: int, **options: Any) -> list[tuple[nn.Module, Any]]:
    """The result and the method of each process; their batch norms see different images."""
    method_class, ranks = find(name), []
    for seed in (2, 3):
        torch.manual_seed(0)
        method = method_class(method_class.Options(**options), keep=0.5, steps=steps, tolerance=0.05)
        data = batches(steps, batch=4, seed=seed)
        trained = method.prepare(SmallResidual(), data[0][0][:2])
        optimizer = torch.optim.SGD(method.param_groups(trained), lr=0.05, momentum=0.9)
        ranks.append((method, trained, optimizer, data))
    for step in range(steps):
        for _, trained, _, data in ranks:
            x, y = data[step]
            F.cross_entropy(trained(x), y).backward()
        for mine in zip(*(trained.parameters() for _, trained, _, _ in ranks), strict=True):
            mean = torch.stack([p.grad for p in mine]).mean(0)
            for p in mine:
                p.grad.copy_(mean)
        for method, _, optimizer, _ in ranks:
            method.after_backward()
            optimizer.step()
            optimizer.zero_grad()
            method.after_step(optimizer)
    return [(method.finish(), method) for method, *_ in ranks]
