"""What a network uses in training alone, or without calling its layer, is cut along or refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from greenprune.methods import ConsensusGating
from greenprune.methods.structure import surgery
from greenprune.methods.structure.trace import trace
from torch import Tensor, nn

from tests.methods.structure.odd import normed

IMAGE = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class WithAuxiliary(nn.Module):
    """A head in the middle that is called in training alone, as googlenet and inception have."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = normed(3, 8), normed(8, 12)
        self.side, self.extra, self.head = nn.Conv2d(8, 6, 1), nn.Linear(6, 5), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Any:
        x = self.a(x)
        side = self.extra(F.relu(self.side(x)).mean((2, 3))) if self.training else None
        logits = self.head(self.b(x).mean((2, 3)))
        return logits if side is None else (logits, side)


def test_layers_that_are_called_in_training_alone_are_cut_along() -> None:
    model = WithAuxiliary()
    statistics = model.a[1].running_mean.clone()
    structure = trace(model, IMAGE)
    assert torch.equal(model.a[1].running_mean, statistics)
    assert {g.name for g in structure.groups} == {"a.0", "b.0"}
    assert dict(structure.fixed)["side"] == "it is not called with the example inputs"
    gating = ConsensusGating(model, IMAGE, keep=0.6, steps=12, tolerance=0.2)
    optimizer = torch.optim.SGD(gating.parameters(), lr=0.05)
    while gating.searching:
        logits, side = gating(IMAGE)
        loss = F.cross_entropy(logits + 0.3 * side, torch.tensor([0, 1, 2, 3])) + gating.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        gating.step(optimizer)
    small = gating.finish()
    assert small.side.in_channels == small.a[0].out_channels < 8
    assert len(small.train()(IMAGE)) == 2


class SpatialMask(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.mask, self.b, self.head = (
            normed(3, 16),
            nn.Conv2d(2, 1, 7, padding=3),
            normed(16, 8),
            nn.Linear(8, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = x * torch.sigmoid(self.mask(torch.stack([x.mean(1), x.amax(1)], 1)))
        return self.head(self.b(x).mean((2, 3)))


def test_a_mask_of_one_channel_is_no_unit_and_what_it_looks_at_is_refused() -> None:
    structure = trace(SpatialMask(), IMAGE)
    assert [(g.name, g.width) for g in structure.groups] == [("b.0", 8)]
    fixed = dict(structure.fixed)
    assert "mean" in fixed["a.0"]
    assert "broadcasts a single channel" in fixed["mask"]


def test_a_weight_that_is_used_without_its_layer_is_cut_and_masked_as_a_weight() -> None:
    class Uses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(6, 16), nn.Linear(16, 8), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(F.linear(F.relu(self.a(x)), self.b.weight, self.b.bias)))

    model, x = Uses().eval(), torch.randn(2, 6)
    structure = trace(model, x)
    assert [g.name for g in structure.groups] == ["a", "b"]
    assert structure.layers["b"].owner == ""
    keep = torch.arange(structure.units) % 2 == 0
    with surgery.masked(model, structure, keep):
        expected = surgery.evaluate(model, x)
    assert torch.allclose(surgery.evaluate(surgery.remove(model, structure, keep), x), expected, atol=1e-6)
    assert model.b.out_features == 4


def test_a_norm_with_an_activation_of_its_own_keeps_its_statistics() -> None:
    class NormAct(nn.BatchNorm2d):
        def __init__(self, width: int) -> None:
            super().__init__(width)
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(super().forward(x))

    model = nn.Sequential(nn.Conv2d(3, 8, 3), NormAct(8), nn.Conv2d(8, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert [g.name for g in trace(model, IMAGE).groups] == ["0"]
    assert (model[1].running_mean == 0).all()


def test_what_cannot_be_cut_in_training_is_refused() -> None:
    class Counts(WithAuxiliary):
        def forward(self, x: Tensor) -> Any:
            x = self.a(x)
            logits = self.head(self.b(x).mean((2, 3)))
            if not self.training:
                return logits
            return logits, self.extra(F.relu(self.side(x) / x.shape[1]).mean((2, 3)))

    structure = trace(Counts(), IMAGE)
    assert {g.name for g in structure.groups} == {"b.0"}
    assert "removing them is not masking them" in dict(structure.fixed)["a.0"]


class Average(nn.Module):
    """A moving average of each channel, kept up in training alone."""

    def __init__(self, width: int, *, stored: bool) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width), persistent=stored)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean.lerp_(x.detach().mean((0, 2, 3)), 0.1)
        return x


class InTraining(nn.Module):
    """Uses tensors as wide as its channels in training alone; without its targets it does not run there."""

    def __init__(self, *, stored: bool = True, noisy: bool = False, wants_targets: bool = False) -> None:
        super().__init__()
        self.a, self.b, self.head = normed(3, 16), normed(16, 12), nn.Linear(12, 5)
        self.average = nn.Identity() if noisy else Average(16, stored=stored)
        self.std = nn.Parameter(torch.rand(16)) if noisy else None
        self.wants_targets = wants_targets

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.wants_targets:
            raise ValueError("targets are missing")
        x = self.average(self.a(x))
        if self.std is not None and self.training:
            x = x + self.std.view(1, -1, 1, 1) * torch.randn_like(x)
        return self.head(self.b(x).mean((2, 3)))


@pytest.mark.parametrize("options", [{}, {"noisy": True}])
def test_tensors_that_are_used_in_training_alone_are_cut_along(options: dict[str, bool]) -> None:
    model = InTraining(**options)
    state, drawn = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    structure = trace(model, IMAGE)
    assert {g.name for g in structure.groups} == {"a.0", "b.0"}
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    small = surgery.remove(model, structure, torch.arange(structure.units) % 2 == 0).train()
    small(IMAGE).sum().backward()
    assert len(small.std if small.std is not None else small.average.mean) == small.a[0].out_channels == 8


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"stored": False}, "fixed size in average"),
        ({"noisy": True, "wants_targets": True}, "as many as std is wide"),
        ({"wants_targets": True}, "as many as average.mean is wide"),
    ],
)
def test_what_may_be_coupled_in_training_is_refused(options: dict[str, bool], why: str) -> None:
    structure = trace(InTraining(**options), IMAGE)
    assert {g.name for g in structure.groups} == {"b.0"}
    assert why in dict(structure.fixed)["a.0"]
