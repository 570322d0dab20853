"""What is tried on a randomised copy: chance plays no part in it, and the copy shares no modules with the network."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from greenprune.methods.structure.inputs import Inputs
from greenprune.methods.structure.stage import other_in_training
from greenprune.methods.structure.surgery import evaluate
from greenprune.methods.structure.trace import trace
from torch import Tensor, nn

from tests.methods.structure.odd import conv, head

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class DropConnect(nn.Module):
    """Leaves its branch out by chance: of each image, by PyTorch's generator, or altogether, by Python's."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.a, self.b, self.kind = conv(8, 8), conv(8, 8), kind

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(F.relu(self.a(x)))
        if self.training and self.kind == "torch":
            y = y / 0.9 * torch.floor(0.9 + torch.rand(len(x), 1, 1, 1))
        elif self.training and self.kind == "python":
            y = y / 0.9 * (random.random() < 0.9)
        elif self.training:
            y = y / 0.9
        return x + y


@pytest.mark.parametrize(("kind", "other"), [("torch", False), ("python", False), ("none", True)])
def test_a_way_that_is_taken_by_chance_is_not_compared(kind: str, other: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(conv(3, 8), DropConnect(kind), head(8)).eval()
    for seed in range(3):  # with most of them nothing is dropped
        torch.manual_seed(seed)
        random.seed(seed)
        assert other_in_training(model, Inputs.of(X), evaluate(model, X)) == other
    assert len(trace(model, X).branches) == 1


class Attending(nn.Module):
    """Attention counts as random to PyTorch, though it drops nothing here."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        y = F.scaled_dot_product_attention(y, y, y)
        return 2 * y if self.training else y


def test_attention_that_drops_nothing_is_not_taken_for_chance() -> None:
    model = Attending().eval()
    assert other_in_training(model, Inputs.of(X), evaluate(model, X))
