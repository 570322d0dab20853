"""Inference with the dense and with a pruned network, and the forward pass of a search with all gates open."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from greenprune.bench.models import build
from greenprune.methods import ConsensusGating, Uniform, count_macs
from torch import nn

from tests.benchmarks import references
from tests.benchmarks.side_by_side import SideBySide


def dense() -> nn.Module:
    return build("resnet20", 10, seed=0).to(memory_format=torch.channels_last)


def pruned() -> nn.Module:
    return Uniform(keep=0.5, steps=10).prepare(dense(), references.images()[:2])


def gated() -> nn.Module:
    return ConsensusGating(dense(), references.images()[:2], keep=0.5, steps=10**6)


@pytest.mark.parametrize(("make", "calls"), [(dense, 2), (pruned, 2), (gated, 1)], ids=["dense", "pruned", "gated"])
def test_forward(side_by_side: SideBySide, make: Callable[[], nn.Module], calls: int) -> None:
    x = references.images()
    network = make()
    searches = isinstance(network, ConsensusGating)
    network.train(searches)
    macs = count_macs(network, x[:1])

    def forward() -> None:
        with torch.inference_mode(not searches):  # in a search the graph for the gradients is part of the pass
            for _ in range(calls):
                network(x)

    side_by_side(forward, references.forward(), images=calls * len(x), macs=calls * len(x) * macs)
