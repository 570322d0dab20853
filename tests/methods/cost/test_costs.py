"""Costs other than MACs, and choices that come close to a budget in whole steps."""

from __future__ import annotations

import copy

import pytest
import torch
from greenprune.bench.models import build
from greenprune.methods.budget import select as budget
from greenprune.methods.budget.select import BudgetError, floor, select
from greenprune.methods.cost.costs import MacCost, ParamCost
from greenprune.methods.structure.macs import count_macs, count_params
from greenprune.methods.structure.surgery import remove
from greenprune.methods.structure.units import Structure
from torch import nn

from tests.methods.networks import images, network
from tests.methods.traces import trace

NETWORKS = ["resnet20", "vgg16_bn", "torchvision/resnet18", "torchvision/mobilenet_v2"]


def scores(structure: Structure, seed: int = 3) -> torch.Tensor:
    return torch.rand(structure.units, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["macs", "params"])
@pytest.mark.parametrize("keep", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_budget_is_met_by_what_is_really_removed(name, keep, kind):
    model, x = build(name, 10, seed=0), images(2)
    structure = trace(model, x)
    counted = {"macs": lambda m: count_macs(m, x), "params": count_params}[kind]
    dense = counted(model)
    cost = budget.make_cost(kind, structure, model)
    assert cost.reference == dense
    chosen = select(structure, scores(structure), keep, 0.02, cost=cost)
    expected = float(cost(chosen.float()))
    kept = counted(remove(model, structure, chosen)) / dense
    assert keep - 0.02 <= kept <= keep
    assert kept == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["torchvision/convnext_tiny", "torchvision/efficientnet_b0"])
def test_parameters_that_no_gate_reaches_are_counted_too(name):
    """Layer norms, layer scales: they stay, or go with their residual branch."""
    model = build(name, 10, seed=0)
    structure = trace(model, images(2))
    cost = ParamCost(structure, model)
    dense = count_params(model)
    keep = torch.ones(structure.units, dtype=torch.bool)
    assert float(cost(keep.float())) == pytest.approx(1.0, abs=1e-6)
    assert structure.branches
    keep[[b.unit for b in structure.branches[::2]]] = False
    left = count_params(remove(model, structure, keep))
    assert left / dense == pytest.approx(float(cost(keep.float())), abs=1e-6)


@pytest.mark.parametrize("name", ["resnet20", "torchvision/convnext_tiny"])
def test_everything_open_costs_all_and_autocast_does_not_round_it(name):
    model = build(name, 10, seed=0)
    structure = trace(model, images(2))
    cost = ParamCost(structure, model)
    # Four roundings of float32: shares of up to 3,072 channels are counted, not summed up from rounded parts.
    assert float(cost(torch.ones(structure.units))) == pytest.approx(1.0, abs=2.5e-7)
    openness = torch.rand(structure.units, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = cost(openness)
    assert rounded.dtype == torch.float32
    assert float(rounded) == float(cost(openness))


@pytest.mark.parametrize("kind", ["macs", "params"])
def test_costs_have_a_gradient_and_take_batches(kind):
    model = build("resnet20", 10, seed=0)
    structure = trace(model, images(2))
    cost = budget.make_cost(kind, structure, model)
    openness = torch.rand(3, structure.units, requires_grad=True)
    values = cost(openness)
    assert values.shape == (3,)
    assert values[1].item() == pytest.approx(cost(openness[1]).item(), rel=1e-5)
    values.sum().backward()
    assert (openness.grad > 0).all()
    assert (cost.prices() > 0).all()


@pytest.mark.parametrize("kind", ["macs", "params"])
def test_a_cut_network_is_measured_by_the_original_one(kind):
    model, x = build("resnet20", 10, seed=0), images(2)
    structure = trace(model, x)
    dense = budget.make_cost(kind, structure, model)
    chosen = select(structure, scores(structure), 0.7, 0.02, cost=dense)
    expected = float(dense(chosen.float()))
    model = remove(model, structure, chosen)
    again = trace(model, x)
    cost = budget.make_cost(kind, again, model, reference=dense.reference)
    assert float(cost(torch.ones(again.units))) == pytest.approx(expected, abs=1e-5)
    further = select(again, scores(again), 0.5, 0.02, cost=cost)
    counted = count_macs(remove(model, again, further), x) if kind == "macs" else None
    if kind == "macs":
        assert 0.48 <= counted / dense.reference <= 0.5
    else:
        assert 0.48 <= float(cost(further.float())) <= 0.5


@pytest.mark.parametrize("round_to", [8, 16])
@pytest.mark.parametrize("kind", ["macs", "params"])
@pytest.mark.parametrize("name", NETWORKS)
def test_widths_are_multiples(name, kind, round_to):
    model = network(name)
    structure = trace(model, images(2))
    cost = budget.make_cost(kind, structure, model)
    chosen = select(structure, scores(structure), 0.5, 0.02, cost=cost, round_to=round_to)
    for group in structure.groups:
        width = int(chosen[group.units].sum())
        assert width == group.width or (width % round_to == 0 and width > 0)
    assert 0.45 <= float(cost(chosen.float())) <= 0.5


def test_bundles_of_the_lowest_scores_go_and_branches_can():
    model = network()
    structure = trace(model, images(2))
    score = scores(structure)
    score[structure.branches[4].unit] = 0.0
    chosen = select(structure, score, 0.5, 0.02, round_to=8)
    assert not chosen[structure.branches[4].unit]
    for group in structure.groups:
        kept, gone = score[group.units][chosen[group.units]], score[group.units][~chosen[group.units]]
        assert len(gone) == 0 or kept.min() >= gone.max()


def test_what_may_not_go_stays_in_bundles_too():
    model = network()
    structure = trace(model, images(2))
    removable = structure.channel_units.clone()
    removable[structure.groups[0].units] = False
    chosen = select(structure, scores(structure), 0.6, 0.02, removable, round_to=8)
    assert chosen[~removable].all()


def test_an_infinite_score_is_never_closed_in_bundles():
    structure = trace(network(), images(2))
    score = scores(structure)
    score[~structure.channel_units] = float("inf")
    assert select(structure, score, 0.6, 0.02, round_to=8)[~structure.channel_units].all()


def test_the_floor_knows_the_cost_and_the_multiple():
    model = network()
    structure = trace(model, images(2))
    params = ParamCost(structure, model)
    least = [floor(structure, None, params, round_to) for round_to in (1, 8, 16)]
    assert 0 < least[0] < least[1] < least[2] < 0.2
    with pytest.raises(BudgetError, match=rf"of the dense parameters; the floor of this network is {least[1]:.3f}"):
        select(structure, scores(structure), least[1] / 2, 0.0001, cost=params, round_to=8)


def test_a_shared_parameter_counts_once():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(3, 8, 3)
            self.b = nn.Conv2d(8, 8, 3, padding=1)
            self.c = copy.deepcopy(self.b)
            self.c.weight = self.b.weight
            self.last = nn.Linear(8, 2)

        def forward(self, x):
            return self.last(self.c(self.b(self.a(x))).mean((2, 3)))

    model = Tied()
    structure = trace(model, images(2))
    assert ParamCost(structure, model).reference == count_params(model)


@pytest.mark.parametrize(("kind", "message"), [("joules", "allowed are macs"), ("latency", "needs a table")])
def test_a_cost_that_cannot_be_computed_is_refused(kind, message):
    with pytest.raises(ValueError, match=message):
        budget.make_cost(kind, trace(network(), images(2)), network())


def test_macs_are_the_default():
    structure = trace(network(), images(2))
    a = select(structure, scores(structure), 0.5, 0.02)
    b = select(structure, scores(structure), 0.5, 0.02, cost=MacCost(structure))
    assert torch.equal(a, b)
