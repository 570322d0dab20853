"""A network under gates is the network that it was: at every batch size, for hooks, and for what its forward asks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from greenprune.methods import ConsensusGating, GatingOptions, Skip
from greenprune.methods.structure.inputs import Inputs
from torch import Tensor, nn

from tests.methods.gating.test_situations import Small, X, Y, build, step


def closed(gating: ConsensusGating, x: Tensor, units: list[int]) -> Tensor:
    """What the network gives in eval mode with these gates closed."""
    consensus = torch.ones(gating.structure.units, dtype=torch.bool)
    consensus[units] = False
    gating.eval()
    with torch.no_grad():
        gating.state.begin(Inputs.of(x), searching=False, shift=torch.zeros(()), consensus=consensus)
        return gating.network(x)


@pytest.mark.parametrize(("first", "then"), [(100, 29), (49, 1), (50, 29), (7, 3), (3, 7)])
def test_a_branch_that_is_skipped_fits_every_batch(first: int, then: int) -> None:
    """100 images were seen with the branch, 29 are without: their share in floating point is less than 29."""
    images = torch.randn(100, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    gating = build(closed_layers="removed")
    unit = gating.structure.branches[0].unit
    closed(gating, images[:first], [])
    assert unit in gating.state.skippable
    skipped = closed(gating, images[:then], [unit])
    assert unit in gating.state.closed  # it was skipped, not masked
    gating.state.skippable = set()
    torch.testing.assert_close(skipped, closed(gating, images[:then], [unit]))


class Asking(nn.Module):
    """Applies an activation behind whatever is a convolution."""

    def __init__(self) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)]
        self.layers = nn.ModuleList([*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, nn.Conv2d):
                x = F.relu(x)
        return x


def test_a_network_that_asks_for_kinds_of_modules_is_refused_and_left_as_it_was() -> None:
    torch.manual_seed(0)
    model = Asking().eval()
    expected, names = model(X), [name for name, _ in model.named_modules()]
    with pytest.raises(Skip, match="isinstance"):
        ConsensusGating(model, X, keep=0.6, steps=16, tolerance=0.2)
    assert [name for name, _ in model.named_modules()] == names
    torch.testing.assert_close(model(X), expected)


def test_hooks_on_norms_are_called_and_what_they_return_counts() -> None:
    torch.manual_seed(0)
    model = Small().eval()
    seen: list[Tensor] = []
    model.blocks[0].na.register_forward_hook(lambda m, args, y: seen.append(y) or 3.0 * y)
    expected = model(X)
    gating = build(model)
    seen.clear()
    torch.testing.assert_close(closed(gating, X, []), expected)
    assert len(seen) == 1
    gating.train()
    gating(X)
    assert len(seen) == 2
    assert seen[-1].requires_grad


def test_hooks_on_blocks_stay_when_a_branch_goes() -> None:
    torch.manual_seed(0)
    model = Small()
    called: list[int] = []
    for number, block in enumerate(model.blocks):
        block.register_forward_hook(lambda m, args, y, number=number: called.append(number))
    gating = ConsensusGating(
        model, X, keep=0.7, steps=6, tolerance=0.5, options=GatingOptions(channels=False, closed_layers="removed")
    )
    optimizer = torch.optim.SGD(gating.parameters(), lr=0.05)
    for _ in range(6):
        step(gating, optimizer)
    small = gating.finish()
    assert any(type(block).__module__.startswith("torch.fx") for block in small.blocks)
    called.clear()
    small(X)
    assert called == [0, 1]


class Listed(nn.Module):
    """Its layers are registered one by one, and called out of a container; in training one speaks early."""

    def __init__(self, kind: type, *, early: bool = False) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)]
        for number, layer in enumerate(layers):
            self.add_module(f"c{number}", layer)
        self.layers = {"all": layers} if kind is dict else kind(layers)
        self.head, self.early = nn.Linear(8, 5), nn.Linear(8, 5) if early else None

    def forward(self, x: Tensor) -> Any:
        for layer in self.layers["all"] if isinstance(self.layers, dict) else self.layers:
            x = F.relu(layer(x))
        y = self.head(x.mean((2, 3)))
        return (y, self.early(x.mean((2, 3)))) if self.training and self.early is not None else y


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_layers_called_out_of_a_container_are_gated_and_cut(kind: type, early: bool) -> None:
    torch.manual_seed(0)
    gating = ConsensusGating(Listed(kind, early=early), X, keep=0.6, steps=6, tolerance=0.3)
    assert [group.name for group in gating.structure.groups] == ["c0", "c1", "c2"]
    optimizer = torch.optim.SGD(gating.parameters(), lr=0.05)
    for _ in range(6):
        output = gating(X)
        loss = F.cross_entropy(output[0] if early else output, Y) + gating.penalty()
        if gating.searching:
            assert {id(head) for head in gating.state._hearing._words} == {id(head) for head in gating.heads()}
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        gating.step(optimizer)
    small = gating.finish()
    layers = small.layers["all"] if kind is dict else small.layers
    assert [id(layer) for layer in layers] == [id(small.c0), id(small.c1), id(small.c2)]
    assert sum(layer.out_channels for layer in layers) < 24
    assert gating.masked_max_abs_diff < 1e-4


class Hooked(nn.Module):
    """Reads what one of its layers gave out of what a hook, a method of its own, has kept."""

    def __init__(self) -> None:
        super().__init__()
        self.enc = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.head, self.feats = nn.Linear(8, 5), {}
        self.enc[1].register_forward_hook(self.save)

    def save(self, module: nn.Module, args: Any, y: Tensor) -> None:
        self.feats["one"] = y

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.enc(x) + torch.tanh(self.feats["one"])).mean((2, 3)))


def test_hooks_that_are_methods_of_the_network_do_not_stand_in_the_way() -> None:
    torch.manual_seed(0)
    gating = ConsensusGating(Hooked(), X, keep=0.7, steps=6, tolerance=0.5)
    assert [group.name for group in gating.structure.groups] == ["enc.0", "enc.1"]


class Hidden:
    """An object of no known kind that holds a layer."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        return self.layer(x)


def test_layers_called_past_their_gates_are_refused_and_left_as_they_were() -> None:
    torch.manual_seed(0)
    model = Listed(list, early=True).eval()
    model.layers = [Hidden(layer) for layer in model.layers]
    expected, names = model(X), [name for name, _ in model.named_modules()]
    with pytest.raises(Skip, match="c0 would decide by chance"):
        ConsensusGating(model, X, keep=0.6, steps=6, tolerance=0.3)
    assert [name for name, _ in model.named_modules()] == names
    torch.testing.assert_close(model(X), expected)
