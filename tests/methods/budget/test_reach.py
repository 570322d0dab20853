"""What a budget comes to where the units of a network are coarse, said before anything is spent."""

from __future__ import annotations

import warnings

import pytest
import torch
from greenprune.methods import BudgetError, ConsensusGating, count_macs, find
from greenprune.methods.budget.reach import CoarseBudget, apart, check_budget, check_floor
from greenprune.methods.budget.select import select
from greenprune.methods.cost.costs import MacCost
from torch import Tensor, nn

from tests.methods.networks import images, network
from tests.methods.traces import trace


def coarse() -> nn.Module:
    """Three hidden units: 1/3, 2/3 or all of the cost."""
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3), nn.ReLU(), nn.Linear(3, 10))


def small_images(n: int = 2) -> Tensor:
    return torch.randn(n, 3, 4, 4)


@pytest.mark.parametrize(("keep", "below", "above"), [(0.5, 1 / 3, 2 / 3), (0.65, 1 / 3, 2 / 3), (0.9, 2 / 3, 1.0)])
def test_the_constructor_says_what_comes_nearest_and_the_search_ends_there(keep, below, above):
    model, x = coarse(), small_images()
    with pytest.warns(CoarseBudget, match=rf"keep = {keep} cannot be met .* costs {below:.3f} .* costs {above:.3f}"):
        gating = ConsensusGating(model, x, keep=keep, steps=8)
    assert (gating.nearest.below, gating.nearest.above) == pytest.approx((below, above))
    optimizer = torch.optim.SGD(gating.parameters(), lr=0.1)
    for _ in range(8):
        loss = gating(small_images(4)).square().mean() + gating.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        gating.step(optimizer)
    assert count_macs(gating.finish(), x) / count_macs(coarse(), x) == pytest.approx(below)


@pytest.mark.parametrize("name", ["uniform", "random", "magnitude"])
def test_every_method_says_it_in_prepare(name):
    method = find(name)(keep=0.5, steps=4)
    with pytest.warns(CoarseBudget):
        method.prepare(coarse(), small_images())
    assert method.nearest.below == pytest.approx(1 / 3)


def test_below_the_floor_is_an_error_before_anything_is_spent():
    with pytest.raises(BudgetError, match=r"keep = 0.3 lies below the floor of this network, 0.333 of the dense MACs"):
        ConsensusGating(coarse(), small_images(), keep=0.3, steps=8)


def test_what_is_named_as_allowed_can_be_asked_for():
    structure = trace(coarse(), small_images())
    cost = MacCost(structure)
    with pytest.raises(BudgetError) as refused:
        check_floor(structure, 0.3, None, cost, 1)
    allowed = float(str(refused.value).partition("Allowed is ")[2].partition(" to 1")[0])
    check_floor(structure, allowed, None, cost, 1)
    with pytest.raises(BudgetError):
        check_floor(structure, allowed - 0.001, None, cost, 1)


@pytest.mark.parametrize("keep", [0.05, 0.3, 0.5, 0.875])
def test_nothing_is_said_where_a_budget_can_be_met(keep):
    structure = trace(network(), images(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_budget(structure, keep, 0.02) is None


@pytest.mark.parametrize("draw", range(5))
def test_exchanging_units_meets_what_closing_them_in_order_jumps_over(draw):
    """Widths of 9 and 3: units of very different cost."""
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(48, 9),
        nn.ReLU(),
        nn.Linear(9, 3),
        nn.ReLU(),
        nn.Linear(3, 30),
        nn.ReLU(),
        nn.Linear(30, 9),
    )
    structure = trace(model, small_images())
    cost = MacCost(structure)
    scores = torch.rand(structure.units, generator=torch.Generator().manual_seed(draw))
    kept = select(structure, scores, 0.62, 0.02, cost=cost)
    assert 0.6 <= float(cost(kept.float())) <= 0.62
    for group in structure.groups:
        assert kept[group.units].any()


def test_a_number_has_the_digits_that_tell_it_from_another():
    assert apart(0.5003, 0.5) == "0.5003"
    assert apart(0.49999, 0.5) == "0.49999"
    assert apart(0.3333333, 0.5) == "0.333"
    assert apart(0.5, 0.5) == "0.500"
