"""What a step does beside forward, backward and the optimizer: parts of a batch, clipped gradients, the moving average."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from greenprune.bench.suite.recipe import Training
from greenprune.bench.tasks.catalogue import make_task
from greenprune.bench.training.averaging import KEY, Average
from greenprune.bench.training.optimizers import make_optimizer
from greenprune.bench.training.step import Stepper
from greenprune.methods import Method, registry
from torch import Tensor, nn

from tests.bench.training.test_resume import network as residual

X = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(1))
Y = torch.arange(12) % 10


def plain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))


def stepped(
    count: int = 1, optimizer: str = "sgd", watch: Callable[[nn.Module, Stepper], None] | None = None, **recipe_of: Any
) -> tuple[nn.Module, Stepper, Tensor]:
    """A network after some steps with the same batch, what took them, and the loss of the last."""
    recipe = Training(epochs=1, batch_size=len(X), optimizer=optimizer, **{"learning_rate": 0.1, **recipe_of})
    method = registry()["dense"](keep=1.0, steps=count)
    network = method.prepare(plain(), X[:2])
    step = Stepper(
        network, method, make_task("classification"), make_optimizer(method.param_groups(network), recipe), recipe,
        contextlib.nullcontext,
    )  # fmt: skip
    loss = torch.zeros(())
    for _ in range(count):
        loss, _ = step(X, Y, 0.1)
        if watch is not None:
            watch(network, step)
    return network, step, loss


@pytest.mark.parametrize("parts", [2, 5, 12])
def test_parts_of_a_batch_are_the_whole_batch(parts: int) -> None:
    whole, _, loss = stepped(3)
    network, _, found = stepped(3, accumulate_steps=parts)
    torch.testing.assert_close(found, loss)
    for ours, theirs in zip(network.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_gradient_is_no_longer_than_allowed() -> None:
    before = torch.cat([p.detach().flatten() for p in plain().parameters()])

    def moved(**recipe_of: Any) -> float:
        network, _, _ = stepped(1, momentum=0.0, nesterov=False, weight_decay=0.0, **recipe_of)
        return float((torch.cat([p.detach().flatten() for p in network.parameters()]) - before).norm())

    free = moved()
    assert free > 0.02
    assert moved(clip_gradient_norm=0.1) == pytest.approx(0.1 * 0.1, rel=1e-3)
    assert moved(clip_gradient_norm=1e6) == pytest.approx(free)


@pytest.mark.parametrize("recipe_of", [{}, {"momentum": 0.0, "nesterov": False}, {"optimizer": "adamw"}])
def test_the_average_is_what_it_says_and_the_training_does_not_see_it(recipe_of: dict[str, Any]) -> None:
    seen: list[list[Tensor]] = []
    network, step, _ = stepped(
        5, ema_decay=0.8, watch=lambda net, _: seen.append([p.detach().clone() for p in net.parameters()]), **recipe_of
    )
    without, _, _ = stepped(5, **recipe_of)
    for ours, theirs in zip(network.parameters(), without.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    expected = seen[0]
    for weights in seen[1:]:
        expected = [0.8 * mean + 0.2 * now for mean, now in zip(expected, weights, strict=True)]
    with step.evaluated():
        for found, mean in zip(network.parameters(), expected, strict=True):
            torch.testing.assert_close(found, mean)
    assert all(torch.equal(p, now) for p, now in zip(network.parameters(), seen[-1], strict=True))
    step.last()
    for found, mean in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(found, mean)


def test_an_average_that_is_not_evaluated_is_only_told() -> None:
    network, step, _ = stepped(3, ema_decay=0.5, ema_evaluate=False)
    own = [p.detach().clone() for p in network.parameters()]
    with step.evaluated():
        assert all(torch.equal(p, before) for p, before in zip(network.parameters(), own, strict=True))
    (note,) = step.compared(lambda: 0.25)
    assert note.startswith("held-out accuracy of the moving average of the weights: 25")
    step.last()
    assert all(torch.equal(p, before) for p, before in zip(network.parameters(), own, strict=True))
    assert stepped(1)[1].compared(lambda: 1.0) == ()


@pytest.mark.parametrize("name", ["gated", "magnitude", "slimming"])
def test_the_average_shrinks_with_the_network(name: str) -> None:
    method: Method = registry()[name](keep=0.6, steps=20, tolerance=0.1, seed=1)
    images = torch.randn(8, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    network = method.prepare(residual(), images[:2])
    recipe = Training(epochs=1, learning_rate=0.01)
    optimizer = make_optimizer(method.param_groups(network), recipe)
    average = Average(optimizer, 0.9)
    sizes = set()
    for _ in range(20):
        loss = nn.functional.cross_entropy(network(images), torch.arange(8)) + method.penalty()
        loss.backward()
        method.after_backward()
        with average.apart():
            optimizer.step()
        optimizer.zero_grad()
        method.after_step(optimizer)
        average.update()
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        assert all(optimizer.state[p][KEY].shape == p.shape for p in trained)
        sizes.add(sum(p.numel() for p in trained))
    assert len(sizes) > 1, "nothing was removed"
    average.put()
    assert method.finish()(images).isfinite().all()
