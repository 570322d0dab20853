"""The choice where a call costs more than what it computes, as at one image: a narrower layer saves little."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from greenprune.bench.models import build
from greenprune.methods import calibrate, find
from greenprune.methods.budget.select import nearest
from greenprune.methods.cost.costs import MacCost
from greenprune.methods.cost.measured_cost import CostTable, TableCost
from greenprune.methods.gating.selection import Terms, select
from greenprune.methods.gating.shrinking import GONE, UNDECIDED
from greenprune.methods.structure.units import Structure
from torch.utils._python_dispatch import TorchDispatchMode

from tests.methods.networks import images
from tests.methods.traces import trace

KEEP, TOLERANCE = 0.44, 0.02
CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.conv2d.default)  # the latter in inference mode


class Calls(TorchDispatchMode):
    """What a runtime takes that spends as much time on calling a convolution as two million multiply-accumulates."""

    total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in CONVOLUTIONS:
            self.total += 1.0 + out.numel() * args[1][0].numel() / 2e6
        return out


def taken(run: Any) -> float:
    with Calls() as calls:
        run()
    return calls.total + 1e-9


@pytest.fixture(scope="module")
def structure() -> Structure:
    return trace(build("resnet20", 10, seed=0), images(1, size=16))


@pytest.fixture(scope="module")
def table() -> CostTable:
    return calibrate(build("resnet20", 10, seed=0), images(1, size=16), batch_size=1, measure=taken, rounds=1, steps=2)


@pytest.mark.parametrize("seed", range(6))
def test_a_layer_too_many_is_closed_before_all_others_are_narrowed_to_nothing(
    structure: Structure, table: CostTable, seed: int
) -> None:
    cost, macs = TableCost(structure, table), MacCost(structure)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(structure.units, generator=generator)
    for branch in structure.branches:  # a layer's channels share its worth
        inside = structure.channels_inside(branch.unit)
        worth = torch.rand(1, generator=generator)
        scores[branch.unit] = worth
        scores[inside] = (worth + 0.05 * torch.randn(len(inside), generator=generator)).clamp(0, 1)
    kept, reached, _ = nearest(structure, scores, KEEP, TOLERANCE, None, cost, per="saved")
    assert 0.9 * KEEP <= reached <= KEEP
    assert reached == pytest.approx(float(cost(kept.float())), rel=1e-6)
    closed = torch.ones(structure.units)
    branches = sorted((b.unit for b in structure.branches), key=lambda unit: float(scores[unit]))
    for unit in branches:  # the least worth first, until the budget is met
        if float(cost(closed)) <= KEEP:
            break
        closed[unit] = 0.0
    assert float(macs(kept.float())) > 0.8 * float(macs(closed))


def test_a_shallower_network_keeps_the_width_that_costs_nearly_nothing(structure: Structure, table: CostTable) -> None:
    method = find("shallow")(keep=KEEP, steps=1, cost="latency", table=table)
    result = method.prepare(build("resnet20", 10, seed=0), images(1, size=16))
    assert 0.9 * KEEP <= method.predicted_cost <= KEEP
    again = trace(result, images(1, size=16))
    widths = sorted(group.width for group in again.groups if group.width)
    assert widths[0] == 16


@pytest.mark.parametrize("seed", range(4))
def test_what_is_gone_already_does_not_make_the_gates_that_are_left_look_alike(
    structure: Structure, table: CostTable, seed: int
) -> None:
    """Where the gates agree on a network of the budget's cost, that is the one, whatever of the rest was cut before."""
    cost = TableCost(structure, table)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(structure.branches), generator=generator).tolist()
    whole, narrow = ([structure.branches[i] for i in part] for part in (order[:5], order[5:7]))
    closed = torch.zeros(structure.units, dtype=torch.bool)
    closed[[branch.unit for branch in whole]] = True
    for branch in whole:
        closed[structure.channels_inside(branch.unit)] = True
    for branch in narrow:
        inside = structure.channels_inside(branch.unit)
        closed[inside[: len(inside) // 2]] = True
    logits = torch.where(closed, -6.0, 6.0) + 0.3 * torch.randn(structure.units, generator=generator)
    decided = torch.full((structure.units,), UNDECIDED)
    decided[structure.channels_inside(narrow[0].unit)[:4]] = GONE
    terms = Terms(cost, float(cost((~closed).float())) + 1e-6, TOLERANCE, 1)
    kept = select(structure, terms, logits, torch.zeros(()), decided, None)
    assert not (~kept & ~closed).any()
