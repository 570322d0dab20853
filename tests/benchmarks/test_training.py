"""One training step as the training loop takes it: dense, and in the middle of a search, when the budget tightens."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from greenprune.bench.models import build
from greenprune.bench.suite.recipe import Training
from greenprune.bench.training.optimizers import make_optimizer
from greenprune.methods import MacMeter, Method, find

from tests.benchmarks import references
from tests.benchmarks.side_by_side import SideBySide

STEPS = 10**6  # of a whole search: the few that are taken here move it nowhere


@pytest.mark.parametrize("name", ["dense", "gated"])
def test_training_step(side_by_side: SideBySide, name: str) -> None:
    x, y = references.images(), references.labels()
    method: Method = find(name)(keep=1.0 if name == "dense" else 0.5, steps=STEPS)
    network = method.prepare(build("resnet20", 10, seed=0).to(memory_format=torch.channels_last), x[:2])
    network.train()
    optimizer = make_optimizer(method.param_groups(network), Training(epochs=1))
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # the weights stay, so that all steps are alike
    if name == "gated":
        method.gating.steps_done = round(0.6 * method.gating.search_steps)  # type: ignore[attr-defined]
    forward_macs = []

    def step() -> None:
        with MacMeter() as macs:
            logits = network(x)
        loss = F.cross_entropy(logits, y) + method.penalty()
        loss.backward()
        method.after_backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        method.after_step(optimizer)
        forward_macs.append(macs.total)

    step()
    side_by_side(step, references.training(), images=len(x), macs=forward_macs[0])
