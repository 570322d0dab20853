"""What is remembered of a network is what `trace` finds, and of that network alone."""

from __future__ import annotations

import torch
from greenprune.methods.structure.trace import trace

from tests.methods import traces
from tests.methods.networks import images, network


def test_what_is_remembered_is_what_trace_finds() -> None:
    found = trace(network(), images(2, 16))
    for _ in range(2):
        again = traces.trace(network(), images(2, 16))
        assert (again.groups, again.branches, again.fixed, again.macs) == (
            found.groups, found.branches, found.fixed, found.macs,
        )  # fmt: skip
        assert again.layers.keys() == found.layers.keys()


def test_whatever_makes_a_difference_makes_another_network() -> None:
    def key(change=lambda model: None, **input_of) -> object:
        model = network()
        change(model)
        return traces.key_of(model, images(**{"count": 2, "size": 16} | input_of))

    def other_weight(model) -> None:
        with torch.no_grad():
            model.conv1.weight[0, 0, 0, 0] += 1e-3

    changes = [
        other_weight,
        lambda model: model.eval(),
        lambda model: setattr(model, "bn1", torch.nn.Identity()),
        lambda model: setattr(model.layer1[0].conv1, "padding_mode", "circular"),
        lambda model: setattr(model, "fc", torch.nn.utils.parametrizations.weight_norm(model.fc)),
        lambda model: setattr(model.layer1[1].conv2, "weight", model.layer1[1].conv1.weight),
    ]
    keys = [key(), key(size=32), key(seed=5), *map(key, changes)]
    assert key() == keys[0]
    assert None not in keys[:6]
    assert len(set(keys)) == len(keys)
    assert key(lambda model: model.register_forward_hook(lambda *_: None)) is None
    assert key(lambda model: setattr(model, "act", lambda x: x)) is None
