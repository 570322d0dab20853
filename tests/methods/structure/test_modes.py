"""Modes: a `train` that does something is called, and leaves a network as it was."""

from __future__ import annotations

import torch
from greenprune.methods.structure.modes import as_in_training, as_they_were, evaluating
from greenprune.methods.structure.trace import trace
from torch import Tensor, nn

from tests.methods.structure.odd import conv, head


class LowRank(nn.Linear):
    """Like those of loralib: in evaluation the product of its factors is part of its weight."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width)
        self.down, self.up = nn.Parameter(torch.randn(2, width)), nn.Parameter(torch.randn(width, 2))
        self.merged = False

    def train(self, mode: bool = True) -> LowRank:
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * self.up.data @ self.down.data
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if self.merged else y + x @ self.down.T @ self.up.T


def test_tracing_leaves_weights_that_modes_change_as_they_were() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(conv(3, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), LowRank(8), nn.Linear(8, 5))
    x = torch.randn(2, 3, 16, 16)
    for mode in (True, False):
        expected = model.train(mode)(x)
        trace(model, x)
        assert model[4].merged != mode
        torch.testing.assert_close(model(x), expected)


def test_modes_set_by_hand_come_back() -> None:
    model = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.Sequential(LowRank(8), nn.BatchNorm1d(8)))
    model[1].eval()
    model[2][0].eval()
    modes = [m.training for m in model.modules()]
    for inside in (as_they_were, evaluating, as_in_training):
        with inside(model):
            model[2].train()
        assert [m.training for m in model.modules()] == modes
        assert model[2][0].merged


def test_the_way_in_training_is_that_of_modules_made_of_others() -> None:
    model = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.Dropout(), head(8)).eval()
    with as_in_training(model):
        assert [m.training for m in model] == [False, False, False, True]
        assert model.training
    assert not any(m.training for m in model.modules())
