"""Pruning when the sub-network is stable; what it shares with other methods is in test_contract."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from greenprune.methods.one_cycle import OneCycle, Saliency, channel_costs, similarity, spared
from greenprune.methods.options.one_cycle import OneCycleOptions
from torch import nn

from tests.methods.networks import SmallResidual, images, network
from tests.methods.together import train_in_two
from tests.methods.traces import trace


def test_saliency_is_the_mean_of_what_the_weights_say_times_what_the_channel_costs() -> None:
    model = network()
    structure = trace(model, images(2, 16))
    found = Saliency(model, structure)(model)
    costs = channel_costs(structure)
    group = next(g for g in structure.groups if g.name == "layer1.0.conv1")
    number = structure.groups.index(group)
    block, channel = model.layer1[0], 5
    # A channel of it costs 16 x 16 places, 9 taps, 16 channels before it and 16 behind it.
    assert float(costs[number]) == pytest.approx(2 * 16 * 16 * 9 * 16 / 1e6, rel=1e-4)
    share = math.exp(float(costs[number])) / sum(math.exp(c) for c in costs.tolist())
    filters = sum(w * w for w in block.conv1.weight[channel].flatten().tolist()) / math.sqrt(16 * 9)
    inputs = sum(w * w for w in block.conv2.weight[:, channel].flatten().tolist()) / math.sqrt(16 * 9)
    scale = float(block.bn1.weight[channel].detach()) ** 2
    assert float(found[group.start + channel]) == pytest.approx((filters + inputs + scale) / 3 * (1 - share), rel=1e-5)
    assert found[~structure.channel_units].isinf().all()


def test_similarity_by_hand() -> None:
    structure = trace(SmallResidual(), images(2, 16))
    first, count = structure.groups[0], len(structure.groups)
    one = torch.ones(structure.units, dtype=torch.bool)
    other = one.clone()
    assert similarity(structure, one, other) == 1.0
    other[first.start] = False
    one[first.start + 1] = False
    assert similarity(structure, one, other) == pytest.approx((count - 1 + (first.width - 2) / first.width) / count)


def test_of_each_group_the_best_go_last() -> None:
    structure = trace(network(), images(2, 16))
    scores = torch.rand(structure.units, generator=torch.Generator().manual_seed(0))
    found = spared(structure, scores, 0.75)
    for group in structure.groups:
        best = scores[group.units].topk(group.width - int(0.75 * group.width)).indices
        assert set((found[group.units] > 1.0).nonzero().flatten().tolist()) == set(best.tolist())
    assert torch.equal(spared(structure, scores, 1.0), scores)


def stepped(method: OneCycle, trained: nn.Module, steps: int, noise: float = 0.0) -> None:
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.0)
    for _ in range(steps):
        with torch.no_grad():
            for p in trained.parameters():
                p.add_(torch.randn_like(p), alpha=noise)
        method.after_step(optimizer)


@pytest.mark.parametrize(("noise", "cut_at"), [(0.0, 11), (1.0, 37)])
def test_it_is_cut_when_the_same_sub_network_is_found_again_and_again_or_at_the_latest(
    noise: float, cut_at: int
) -> None:
    torch.manual_seed(0)
    method = OneCycle(OneCycleOptions(shrinkage=0.0), keep=0.5, steps=100, tolerance=0.05)
    trained = method.prepare(SmallResidual(), images(2, 16))
    stepped(method, trained, 10, noise)
    assert method.cut_step is None  # not before the regularisation acts, however stable
    stepped(method, trained, 27, noise)
    assert method.cut_step == cut_at
    history = method.history()
    assert history["cut_step"] == cut_at == history["stability"][-1][0]
    assert (history["stability"][-1][1] == 1.0) == (noise == 0.0)


def test_what_is_redundant_shrinks_as_told_and_nothing_else_does() -> None:
    torch.manual_seed(0)
    # Few looks, so that it cannot be stable before the latest step.
    method = OneCycle(OneCycleOptions(look_share=0.1, shrinkage=7.0), keep=0.5, steps=100, tolerance=0.05)
    trained = method.prepare(network(), images(2, 16))
    bn, conv = trained.model.layer1[0].bn1, trained.model.layer1[0].conv2
    scale, weight = bn.weight.detach().clone(), conv.weight.detach().clone()
    stepped(method, trained, 36)
    group = next(g for g in method._structure.groups if g.name == "layer1.0.conv1")
    stream = next(g for g in method._structure.groups if g.name == "conv1")
    gone = ~method._kept[-1][group.units]
    assert gone.any()
    assert not gone.all()
    factor = math.exp(-7.0 * sum(range(1, 27)) / sum(range(1, 28)))  # of 27 steps one is left
    assert torch.allclose(bn.weight[gone], scale[gone] * factor, rtol=1e-4)
    assert torch.equal(bn.weight[~gone], scale[~gone])
    rows = ~method._kept[-1][stream.units]  # what is redundant as a filter and as an input shrinks twice
    expected = weight * torch.where(rows, factor, 1.0)[:, None, None, None]
    assert torch.allclose(conv.weight, expected * torch.where(gone, factor, 1.0)[None, :, None, None], rtol=1e-3)


def test_processes_that_share_their_gradients_decide_alike() -> None:
    (a, one), (b, two) = train_in_two("one_cycle", 12)
    assert one.cut_step == two.cut_step
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(a.buffers(), b.buffers(), strict=True))  # they saw other images


@pytest.mark.parametrize("options", [{"begin_share": 0.5, "latest_cut": 0.4}, {"begin_share": 0.4, "latest_cut": 0.4}])
def test_a_cut_before_the_regularisation_is_refused(options: dict[str, Any]) -> None:
    told = r"begin_share = 0\.\d: allowed is less than latest_cut = 0\.4"
    with pytest.raises(ValueError, match=told):
        OneCycle.phases(OneCycleOptions(**options))
