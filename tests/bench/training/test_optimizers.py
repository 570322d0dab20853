"""The optimizers of a recipe: what they do to a weight, and that their state shrinks with the network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from greenprune.bench.data.batches import Batches
from greenprune.bench.suite.recipe import Training
from greenprune.bench.tasks.catalogue import make_task
from greenprune.bench.training.loop import train
from greenprune.bench.training.optimizers import make_optimizer
from greenprune.methods import registry
from torch import nn

from tests.bench.training.test_loop import BATCH_SIZE, BATCHES, Meter, dataset
from tests.methods.networks import SmallResidual


def after_one_step(gradient: float, **recipe_of: Any) -> float:
    """A weight of 1 after a step at rate 0.1."""
    weight = nn.Parameter(torch.ones(1, 1))
    optimizer = make_optimizer([{"params": [weight]}], Training(epochs=1, learning_rate=0.1, **recipe_of))
    weight.grad = torch.full_like(weight, gradient)
    optimizer.step()
    return float(weight.detach())


def test_adamw_takes_the_decay_off_the_weight_and_the_others_add_it_to_the_gradient() -> None:
    plain = {"momentum": 0.0, "nesterov": False}
    assert after_one_step(0.0, optimizer="sgd", weight_decay=0.5, **plain) == pytest.approx(1.0 - 0.1 * 0.5)
    assert after_one_step(0.0, optimizer="adamw", weight_decay=0.5) == pytest.approx(1.0 - 0.1 * 0.5)
    assert after_one_step(0.0, optimizer="adam", weight_decay=0.5) == pytest.approx(
        1.0 - 0.1
    )  # a whole step: the sign alone
    for optimizer in ("adam", "adamw"):
        assert after_one_step(3.0, optimizer=optimizer, weight_decay=0.0) == pytest.approx(1.0 - 0.1)


def test_the_betas_are_the_recipes() -> None:
    optimizer = make_optimizer(
        [{"params": [nn.Parameter(torch.ones(1))]}], Training(epochs=1, optimizer="adamw", betas=(0.8, 0.95))
    )
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.95)
    assert optimizer.param_groups[0]["lr"] == 1e-3


def test_norms_and_biases_are_left_alone_where_the_recipe_says_so_and_a_methods_own_decay_stays() -> None:
    network, head = SmallResidual(), nn.Linear(4, 1)
    groups = [{"params": list(network.parameters())}, {"params": list(head.parameters()), "weight_decay": 0.25}]
    recipe = Training(epochs=1, weight_decay=0.1, decay_norms_and_biases=False)
    made = make_optimizer(groups, recipe).param_groups
    decays = {id(p): group["weight_decay"] for group in made for p in group["params"]}
    assert all(decays[id(p)] == (0.1 if p.ndim > 1 else 0.0) for p in network.parameters())
    assert all(decays[id(p)] == 0.25 for p in head.parameters())
    again = make_optimizer(made, recipe).param_groups  # as a training that goes on makes it
    assert [len(group["params"]) for group in again] == [len(group["params"]) for group in made]
    everything = make_optimizer(groups, Training(epochs=1, weight_decay=0.1)).param_groups
    assert [group["weight_decay"] for group in everything] == [0.1, 0.25]


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_the_state_shrinks_with_the_gated_network(optimizer: str) -> None:
    epochs, seen = 4, []

    class Watched(registry()["gated"]):  # type: ignore[misc]
        def after_step(self, optimizer: torch.optim.Optimizer) -> None:
            before = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
            super().after_step(optimizer)
            held = [p for group in optimizer.param_groups for p in group["params"]]
            seen.append(sum(p.numel() for p in held) < before)
            for p in held:
                state = optimizer.state.get(p, {})
                assert all(state[key].shape == p.shape for key in ("exp_avg", "exp_avg_sq") if key in state)
            ids = {id(p) for p in held}
            assert all(id(p) in ids for p in optimizer.state), "the optimizer keeps what the network no longer has"

    data, cpu = dataset(), torch.device("cpu")
    batches = Batches(data.train, batch_size=BATCH_SIZE, mean=data.mean, std=data.std, device=cpu, seed=1)
    recipe = Training(
        epochs=epochs, batch_size=BATCH_SIZE, optimizer=optimizer, learning_rate=0.01, precision="float32"
    )
    method = Watched(keep=0.6, steps=epochs * BATCHES, tolerance=0.1, seed=1)
    meter: Any = Meter()
    torch.manual_seed(0)
    train(method, SmallResidual(), data, batches, make_task("classification"), recipe, cpu, meter)
    assert any(seen), "nothing was cut"
