"""Masked single weights: which they are, that they stay masked, and that the trained network is the delivered one."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from greenprune.bench.inference.cost import count_connections
from greenprune.bench.suite.recipe import Training
from greenprune.bench.tasks.catalogue import make_task
from greenprune.bench.training.optimizers import make_optimizer
from greenprune.bench.training.step import Stepper
from greenprune.methods import Skip
from greenprune.methods.magnitude_unstructured import MagnitudeUnstructured, prunable_weights, smallest_masked
from greenprune.methods.options.magnitude_unstructured import UnstructuredOptions
from greenprune.methods.structure.surgery import evaluate
from torch import Tensor, nn

from tests.methods.contract import run
from tests.methods.networks import images, network

WIDTH = 8


class Conv1D(nn.Module):
    """As in transformers' GPT-2: a linear layer with its weight as (in, out)."""

    def __init__(self, out: int, into: int) -> None:
        super().__init__()
        self.nf, self.weight, self.bias = (
            out,
            nn.Parameter(0.3 * torch.randn(into, out)),
            nn.Parameter(torch.zeros(out)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class Attending(nn.Module):
    """Four kinds of weights: packed and separate projections of attention, a turned linear layer, linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.packed = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.separate = nn.MultiheadAttention(WIDTH, 2, batch_first=True, kdim=4, vdim=4)
        self.turned = Conv1D(WIDTH, WIDTH)
        self.last = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)[:, : 4 * WIDTH].unflatten(1, (4, WIDTH))
        x = x + self.packed(x, x, x, need_weights=False)[0]
        x = x + self.separate(x, x[..., :4], x[..., 4:], need_weights=False)[0]
        return self.last(self.turned(x).mean(1))


class Tied(nn.Module):
    """A language model in small: the table of embeddings is the weight of the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.inner, self.last = nn.Embedding(10, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 10)
        nn.init.normal_(self.table.weight, std=0.2)
        self.last.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(self.table(x.flatten(1)[:, :4].abs().long().clamp_max(9)).mean(1)))


def stepped(
    kind: type[nn.Module], steps: int = 8, **recipe_of: Any
) -> tuple[MagnitudeUnstructured, Stepper, nn.Module]:
    """A training under the harness's own steps, the second half masked; not finished."""
    torch.manual_seed(0)
    model = kind()
    method = MagnitudeUnstructured(UnstructuredOptions(train_share=0.5), keep=0.25, steps=steps)
    x, y = 3.0 * images(8, 8), torch.arange(8)
    trained = method.prepare(model, x[:2])
    recipe = Training(epochs=1, batch_size=len(x), **{"learning_rate": 0.02, **recipe_of})
    optimizer = make_optimizer(method.param_groups(trained), recipe)
    step = Stepper(trained, method, make_task("classification"), optimizer, recipe, contextlib.nullcontext)
    for _ in range(steps):
        step(x, y, 0.02)
    assert all(p.isfinite().all() for p in trained.parameters())
    return method, step, trained


def test_the_largest_weights_of_all_layers_stay() -> None:
    weights = prunable_weights(network().to(memory_format=torch.channels_last))
    masks = smallest_masked(weights, 0.25)
    kept = torch.cat([weight.detach()[masks[name]].abs() for name, weight in weights.items()])
    gone = torch.cat([weight.detach()[~masks[name]].abs() for name, weight in weights.items()])
    assert kept.min() >= gone.max()
    assert len(kept) / (len(kept) + len(gone)) == pytest.approx(0.25, abs=1e-4)


def test_masked_weights_stay_zero_while_the_others_train() -> None:
    """Momentum from before the masks moves nothing back."""
    result, _ = run("magnitude_unstructured", network().to(memory_format=torch.channels_last), 0.25, steps=20)
    assert 0.23 <= count_connections(result) / count_connections(network()) <= 0.25


def test_nothing_to_mask_is_said() -> None:
    with pytest.raises(Skip, match="no convolution and no linear layer"):
        MagnitudeUnstructured(keep=0.5, steps=10).prepare(nn.Flatten(), images(2, 16))


def test_every_layer_that_makes_channels_of_others_is_masked_and_counted() -> None:
    assert list(prunable_weights(Attending())) == [
        "packed.in_proj_weight", "packed.out_proj.weight", "separate.q_proj_weight", "separate.k_proj_weight",
        "separate.v_proj_weight", "separate.out_proj.weight", "turned.weight", "last.weight",
    ]  # fmt: skip
    assert count_connections(Attending()) == WIDTH * (3 * WIDTH + WIDTH + WIDTH + 4 + 4 + WIDTH + WIDTH + 10)
    method, _, _ = stepped(Attending)
    result = method.finish()
    assert count_connections(result) == count_connections(Attending()) // 4
    assert all((weight == 0).any() for weight in prunable_weights(result).values())


def test_a_shared_weight_is_masked_in_both_places_and_counted_once() -> None:
    method, _, trained = stepped(Tied)
    assert trained.inner.weight.any()
    before = evaluate(trained, 3.0 * images(8, 8))
    result = method.finish()
    assert torch.equal(evaluate(result, 3.0 * images(8, 8)), before)
    assert result.table.weight is result.last.weight
    assert count_connections(result) == (WIDTH * WIDTH + 10 * WIDTH) // 4


@pytest.mark.parametrize("recipe_of", [{}, {"optimizer": "adamw"}])
def test_an_average_is_evaluated_as_it_is_delivered(recipe_of: dict[str, Any]) -> None:
    method, step, trained = stepped(Attending, ema_decay=0.9, **recipe_of)
    x = 3.0 * images(8, 8)
    with step.evaluated():
        assert count_connections(trained) == count_connections(Attending()) // 4
    step.last()
    before = evaluate(trained, x)
    assert torch.equal(evaluate(method.finish(), x), before)


def test_weights_that_are_put_in_place_before_the_end_are_masked() -> None:
    method, _, trained = stepped(Attending)
    with torch.no_grad():
        for weight in prunable_weights(trained).values():
            weight.add_(1.0)
    assert count_connections(method.finish()) == count_connections(Attending()) // 4


def test_what_is_masked_has_no_part_in_the_norm_of_a_gradient() -> None:
    method, _, trained = stepped(Attending)
    nn.functional.cross_entropy(trained(images(8, 8)), torch.arange(8)).backward()
    for weight in prunable_weights(trained).values():
        assert (weight.grad[weight == 0] == 0).all()
        assert weight.grad.any()
    method.finish()
    trained.zero_grad()
    nn.functional.cross_entropy(trained(images(8, 8)), torch.arange(8)).backward()
    assert any(weight.grad[weight == 0].any() for weight in prunable_weights(trained).values())


def test_the_shortest_training_is_masked() -> None:
    method, _, _ = stepped(Attending, steps=1)
    assert count_connections(method.finish()) == count_connections(Attending()) // 4
