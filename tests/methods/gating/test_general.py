"""Gating on networks of every kind: what the search computes is what removal leaves."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from greenprune.bench.models import build
from greenprune.methods import BudgetError, ConsensusGating, GatingOptions, count_macs, describe, ungateable
from greenprune.methods.budget.select import floor, select
from greenprune.methods.gating.setup import gated_units
from greenprune.methods.gating.wiring import unwrap
from greenprune.methods.gating.wrappers import Gated
from greenprune.methods.structure.surgery import evaluate, masked, remove
from greenprune.methods.structure.units import Structure
from torch import nn

from tests.methods.gating.equivalence import NETWORKS
from tests.methods.networks import batches, calibrated, images, network
from tests.methods.traces import trace


def executions(name: str) -> list[str]:
    """Both for the small ones; one each for the rest, to save time (in eval mode both run the consensus)."""
    if name in ("resnet20", "torchvision/resnet18"):
        return ["majority", "per_sample"]
    return [("majority", "per_sample")[NETWORKS.index(name) % 2]]


PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "method.md"


def table_row(name: str, structure: Structure) -> str:
    """The network's row in the table of floors in docs/explanation/method.md."""
    floors = [floor(structure, gated_units(structure, GatingOptions(streams=s))) for s in (False, True)]
    return f"| {name} | {len(structure.groups)} | {len(structure.branches)} | {floors[0]:.3f} | {floors[1]:.3f} |"


BUDGETS = {  # all three for the small ones
    "torchvision/resnet50": (0.5,),
    "torchvision/mobilenet_v2": (0.3,),
    "torchvision/densenet121": (0.3,),
    "torchvision/regnet_y_400mf": (0.3,),
    "torchvision/efficientnet_b0": (0.7,),
    "torchvision/convnext_tiny": (0.3,),
}


@pytest.mark.parametrize(("name", "execution"), [(n, e) for n in NETWORKS for e in executions(n)])
def test_the_consensus_computes_what_removal_leaves(name, execution):
    model, x = calibrated(name)
    dense, dense_macs = evaluate(model, x), count_macs(model, x)
    assert dense.abs().max() < 100  # so that 1e-4 is no matter of rounding
    options = GatingOptions(execution=execution, streams=True)
    gating = ConsensusGating(model, x, keep=0.3, steps=10, options=options)
    assert table_row(name, gating.structure) in PAGE.read_text(encoding="utf-8").splitlines()
    gating.steps_done = 3  # the gates have been released
    generator = torch.Generator().manual_seed(1)
    for keep in BUDGETS.get(name, (0.3, 0.5, 0.7)):
        chosen = select(gating.structure, torch.rand(gating.structure.units, generator=generator), keep, 0.02)
        gating.logit_mean.copy_(torch.where(chosen, 5.0, -5.0))
        by_gates = evaluate(gating, x)
        plain = copy.deepcopy(gating.network)
        unwrap(plain)
        assert not any(isinstance(m, Gated) for m in plain.modules())
        with masked(plain, gating.structure, chosen):
            by_masks = evaluate(plain, x)
        small = remove(plain, gating.structure, chosen)
        removed = evaluate(small, x)
        print(f"{name} {execution} {keep}: max |difference| {(by_gates - removed).abs().max():.1e}")  # shown by -rP
        assert (by_gates - removed).abs().max() <= 1e-4
        assert (by_masks - removed).abs().max() <= 1e-4
        assert (removed - dense).abs().max() > 1e-3  # something was really removed
        assert keep - 0.02 <= count_macs(small, x) / dense_macs <= keep


@pytest.mark.parametrize("name", ["torchvision/resnet18", "torchvision/mobilenet_v2", "torchvision/convnext_tiny"])
def test_a_whole_training_on_networks_from_elsewhere(name):
    """Their blocks work in place and transpose: skipping a closed branch must survive that, forward and backward."""
    torch.manual_seed(0)
    x = images(2, size=32)
    model = build(name, 10, seed=0)
    dense = count_macs(model, x)
    gating = ConsensusGating(model, x, keep=0.5, steps=8, options=GatingOptions(search_share=0.75, open_share=0.1))
    gating.train()
    optimizer = torch.optim.SGD(gating.parameters(), lr=0.01, momentum=0.9)
    for step, (x_, y) in enumerate(batches(8, batch=4, size=32)):
        if step == 3:  # as if the search had decided
            for branch in gating.structure.branches[::2]:
                for head in gating.heads():
                    head.last.bias.data[head.units == branch.unit] = -50.0
        loss = F.cross_entropy(gating(x_), y) + gating.penalty()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        gating.step(optimizer)
        if step == 3:
            assert gating.state.closed  # something was skipped
    assert loss.isfinite()
    assert gating.masked_max_abs_diff <= 1e-4
    assert 0.48 <= count_macs(gating.finish(), x) / dense <= 0.5


def test_skipped_branches_give_what_masked_ones_give():
    model, x = calibrated("torchvision/mobilenet_v2")
    gating = ConsensusGating(model, x, keep=0.5, steps=10)
    gating.steps_done = 3
    skippable = gating.state.skippable
    assert skippable == {b.unit for b in gating.structure.branches}
    gating.logit_mean[list(skippable)] = -5.0
    skipped = evaluate(gating, x)
    assert gating.state.closed == skippable
    gating.state.skippable = set()
    assert (skipped - evaluate(gating, x)).abs().max() <= 1e-5
    assert gating.state.closed == set()


def test_another_batch_and_image_size_than_the_example_inputs():
    model, x = calibrated("torchvision/resnet18")
    gating = ConsensusGating(model, x, keep=0.5, steps=10)
    gating.steps_done = 3
    gating.logit_mean[gating.structure.branches[0].unit] = -5.0
    other = images(5, size=48)
    first, second = evaluate(gating, other), evaluate(gating, other)  # the first one runs, masked; the second skips
    assert first.shape == (5, 10)
    assert (first - second).abs().max() <= 1e-5
    assert gating.state.closed


def test_a_grouped_convolution_loses_whole_groups():
    model, x = calibrated("torchvision/regnet_y_400mf")
    structure = trace(model, x)
    conv = model.trunk_output[1][1].f.b[0]
    name = next(n for n, m in model.named_modules() if m is conv)
    layer = structure.layers[name]
    assert conv.groups == 13
    assert torch.equal(layer.out_units, layer.in_units)
    assert layer.out_units.bincount()[layer.out_units[0] :][:13].tolist() == [8] * 13
    keep = torch.ones(structure.units, dtype=torch.bool)
    keep[layer.out_units[8]] = False
    remove(model, structure, keep)
    assert (conv.groups, conv.in_channels, conv.out_channels, tuple(conv.weight.shape[:2])) == (12, 96, 96, (96, 8))


def test_a_budget_below_the_floor_is_refused_on_a_network_with_few_gates():
    model, x = network("torchvision/resnet18"), images(2)
    options = GatingOptions(channels=False)
    structure = trace(model, x)
    least = floor(structure, gated_units(structure, options))
    assert least > 0.05
    with pytest.raises(BudgetError, match=f"floor of this network, {least:.3f}"):
        ConsensusGating(model, x, keep=least - 0.01, steps=10, options=options)


def test_what_cannot_be_gated_is_listed_for_a_known_network():
    entries = ungateable(network("resnet20"), images(2))
    assert [tuple(e) for e in entries] == [("fc", "it is the network's output", "channels")]


def test_describe_lists_groups_branches_macs_and_what_is_fixed():
    text = describe(network("resnet20"), images(2))
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert lines["layer1.0.conv1"].split()[1:4] == ["16", "11.6%", "yes"]
    assert lines["conv1"].split()[1:4] == ["16", text.split("\nconv1")[1].split()[1], "no"]
    assert lines["branch layer1.0"].split()[2:5] == ["1", "11.6%", "yes"]
    assert "40,813,184 MACs for one input, 98.3% of them under gates; the floor of a budget is 0.017 of them" in text
    assert "channels fc: it is the network's output" in text


def test_group_norm_loses_whole_groups_and_its_branch_goes():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x):
            return x + self.b(F.relu(self.norm(self.a(x))))

    model = nn.Sequential(nn.Conv2d(3, 8, 3), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    assert ("1.a", 2) in [(g.name, g.width) for g in trace(model, images(2)).groups]
    assert "1" in [b.name for b in trace(model, images(2)).branches]
