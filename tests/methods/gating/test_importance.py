"""What the gates learn of the loss: at any scale of it, and of layers that no gradient reaches."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from greenprune.methods import ConsensusGating
from greenprune.methods.gating.importance import Unjudged
from torch import Tensor, nn

from tests.methods.gating.test_situations import Small, X, Y, build, sgd


def searched(scaler: torch.amp.GradScaler | None, batches: int = 1) -> ConsensusGating:
    """A search until the gates are released, and a little on; each step consists of `batches` backward passes."""
    gating = build(steps=30)
    optimizer = sgd(gating.parameters())
    while gating.steps_done < gating.schedule.release_step + 3:
        optimizer.zero_grad()
        for x, y in zip(X.chunk(batches), Y.chunk(batches), strict=True):
            loss = (F.cross_entropy(gating(x), y) + gating.penalty()) / batches
            (loss if scaler is None else scaler.scale(loss)).backward()
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        gating.step(optimizer)
    assert not gating._held_open()
    return gating


@pytest.mark.parametrize("batches", [1, 2])
def test_gates_learn_the_same_where_the_loss_is_scaled(batches: int) -> None:
    """Powers of two, so nothing is rounded; the scale doubles on the way."""
    plain = searched(None, batches)
    scaled = searched(torch.amp.GradScaler("cpu", growth_interval=2), batches)
    assert scaled.state.gradients.rms == plain.state.gradients.rms > 0.0
    assert torch.equal(scaled.state.gradients.importance, plain.state.gradients.importance)
    for one, other in zip(plain.parameters(), scaled.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_step_that_overflows_teaches_nothing() -> None:
    gating = build(steps=60)
    optimizer = sgd(gating.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-100)
    for _ in range(2):
        optimizer.zero_grad()
        scaler.scale(100.0 * F.cross_entropy(gating(X), Y) + gating.penalty()).backward()
        scaler.step(optimizer)
        scaler.update()
        gating.step(optimizer)
    learned = gating.state.gradients
    assert learned.importance_steps == 1
    assert learned.importance.isfinite().all()
    assert 0.0 < learned.rms < 1e6


class Frozen(Small):
    """The stem and the first block run without gradients."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.blocks[0](F.relu(self.stem(x)))
        return self.head(self.blocks[1](x).mean((2, 3)))


def released(model: nn.Module) -> ConsensusGating:
    gating = build(model, steps=30)
    optimizer = sgd(gating.parameters())
    while gating._held_open():
        optimizer.zero_grad()
        (F.cross_entropy(gating(X), Y) + gating.penalty()).backward()
        optimizer.step()
        gating.step(optimizer)
    return gating


def test_layers_that_no_gradient_reaches_are_named_and_ranked_in_the_middle() -> None:
    with pytest.warns(Unjudged, match=r"of blocks\.0\.a, blocks\.0 \(") as found:
        gating = released(Frozen())
    assert len([w for w in found if w.category is Unjudged]) == 1
    groups = {g.name: gating.logit_mean[g.units] for g in gating.structure.groups}
    blind = torch.cat([groups["blocks.0.a"], gating.logit_mean[[b.unit for b in gating.structure.branches][:1]]])
    assert len(blind.unique()) == 1
    seen = groups["blocks.1.a"]
    assert seen.min() < blind[0] < seen.max()


def test_where_gradients_reach_everything_nobody_is_warned() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Unjudged)
        released(Small())
