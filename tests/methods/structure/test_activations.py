"""Activations of every kind: gates and removal agree."""

import pytest
import torch
import torch.nn.functional as F
from greenprune.methods import ConsensusGating, GatingOptions
from greenprune.methods.gating.wiring import unwrap
from greenprune.methods.structure.surgery import evaluate, remove
from torch import nn

from tests.methods.networks import images
from tests.methods.structure.odd import Net, conv, exact, groups, head

ACTIVATIONS = {
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "exp": torch.exp,
    "softplus": F.softplus,
    "cos": torch.cos,
    "plus_one": lambda x: x + 1.0,
    "gelu": F.gelu,
    "silu": F.silu,
    "relu": F.relu,
}


@pytest.mark.parametrize("norm", [True, False], ids=["norm", "plain"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_that_do_not_keep_zero_are_masked_behind_them(activation, norm):
    function = ACTIVATIONS[activation]
    model = Net(
        lambda m, x: m.head(F.relu(m.b(function(m.norm(m.a(x)))))),
        a=conv(3, 8),
        norm=nn.BatchNorm2d(8) if norm else nn.Identity(),
        b=conv(8, 8),
        head=head(8),
    )
    structure = exact(model, images(2, 8))
    assert groups(structure) == ["a", "b"]
    # The mask goes to the consumer's input only where it has to: it costs a pass over the activations.
    assert structure.layers["b"].masks_input == (activation not in ("gelu", "silu", "relu"))


def test_an_activation_module_that_does_not_keep_zero():
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Sigmoid(), nn.Conv2d(8, 6, 3), nn.Softplus(), head(6)]
    assert groups(exact(nn.Sequential(*layers), images(2, 8))) == ["0", "3"]


def test_per_sample_masks_behind_such_an_activation_are_exact_too():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sigmoid(), nn.Conv2d(8, 6, 3), head(6))
    x = images(2, 8)
    gating = ConsensusGating(model, x, keep=1.0, steps=10, options=GatingOptions(execution="per_sample", noise=0.0))
    state = gating.state
    gating.eval()
    gates = torch.ones(2, state.units + 1)
    gates[0, :4] = 0.0  # the first image closes the first four channels

    def begin(*_: object, **__: object) -> None:
        state.gates, state.closed = gates, set()

    state.begin = begin  # type: ignore[method-assign]
    got = evaluate(gating, x)
    unwrap(gating.network)
    keep = gates[0, :-1].bool()
    assert (got[1:] - evaluate(gating.network, x)[1:]).abs().max() <= 1e-6
    assert (got[:1] - evaluate(remove(gating.network, gating.structure, keep), x)[:1]).abs().max() <= 1e-6


def test_a_reused_activation_module():
    relu = nn.ReLU(inplace=True)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), relu, nn.Conv2d(8, 6, 3), relu, head(6))
    assert groups(exact(model, images(2, 8))) == ["0", "2"]
