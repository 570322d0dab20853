"""What gating makes of one network: what it finds, a short search, and whether removal is exact."""

from __future__ import annotations

import copy
import math
import re
import sys
import time
import warnings
from typing import Any
from unittest.mock import patch

import torch
from greenprune.methods import BudgetError, ConsensusGating, GatingOptions, Skip, count_macs, describe
from greenprune.methods.cost.costs import MacCost
from greenprune.methods.structure import outputs
from greenprune.methods.structure.surgery import evaluate, masked, remove
from greenprune.methods.structure.trace import trace
from greenprune.methods.structure.units import Structure
from torch import Tensor, nn

from tests.methods.zoo.entry import Entry

KEEP, STEPS = 0.5, 12
OPTIONS = GatingOptions(search_share=1.0, open_share=0.3, revisit_every=2)
ATTENTION = ("scaled_dot_product", "bmm", "baddbmm", "matmul")
FLOOR = re.compile(r"the floor of a budget is ([0-9.]+)")


def measure(entry: Entry) -> dict[str, Any]:
    """`describe`, then a search of `STEPS` steps at `KEEP`, or just above the floor where that is higher.

    Returns:
        Seconds of CPU time for `describe` (trials included), the share of the executed multiply-accumulates that gates
        reach, how many groups of each kind, the budget, what is kept of it (counted on executed operations), and how far
        masked and removed network lie apart, relative to the size of the outputs. `refused`: why it is not gated.
    """
    warnings.simplefilter("ignore")
    network, inputs = entry.network(), entry.inputs()
    dense_macs = count_macs(network, inputs)
    traced: list[Structure] = []

    def remember(model: nn.Module, example_inputs: Any) -> Structure:
        traced.append(trace(model, example_inputs))
        return traced[-1]

    began_s = time.process_time()
    with patch.object(sys.modules[describe.__module__], "trace", remember):
        told = describe(network, inputs)
    found: dict[str, Any] = {"describe_s": time.process_time() - began_s, "dense_macs": dense_macs}
    floor = FLOOR.search(told)
    assert floor is not None, told
    keep = KEEP if float(floor[1]) < KEEP - 0.005 else min(1.0, math.ceil(100 * float(floor[1]) + 0.5) / 100)
    dense = copy.deepcopy(network)
    try:
        with patch.object(sys.modules[ConsensusGating.__module__], "trace", lambda *_: traced[-1]):  # once is enough
            gating = ConsensusGating(network, inputs, keep=keep, steps=STEPS, options=OPTIONS)
    except (Skip, BudgetError) as refusal:
        return found | {"refused": str(refusal)}
    structure = gating.structure
    found |= kinds(structure) | {
        "keep": keep,
        "floor": float(floor[1]),
        "reached_share": MacCost(structure).share_under(gating.gated.cpu()),
        "not_gated": [list(pair) for pair in (*structure.fixed, *structure.fixed_branches)],
    }
    search(gating, inputs)
    small = gating.finish()
    assert gating.kept is not None
    small_macs = count_macs(small, inputs)
    return found | {
        "kept": small_macs / dense_macs,
        "predicted": gating.predicted_cost,
        "nearest": None if gating.nearest is None else gating.nearest.below,
        **differences(dense, structure, gating.kept.cpu(), inputs),
    }


def search(gating: ConsensusGating, inputs: Any) -> None:
    """A training on random numbers."""
    optimizer = torch.optim.SGD(gating.parameters(), lr=1e-3, momentum=0.9)
    gating.train()
    for _ in range(STEPS):
        given = inputs.map(lambda t: torch.randn_like(t) if t.is_floating_point() else t)
        given_out = outputs.tensors(given.call(gating))
        loss = sum(t.float().square().mean() for t in given_out if t.is_floating_point() and t.requires_grad)
        optimizer.zero_grad()
        (loss + gating.penalty()).backward()
        nn.utils.clip_grad_norm_(gating.parameters(), 1.0)
        optimizer.step()
        gating.step(optimizer)


def kinds(structure: Structure) -> dict[str, Any]:
    """How many groups of channels are heads, residual streams and plain widths, and how many branches there are."""
    ends = {
        unit
        for b in structure.branches
        if b.end in structure.layers
        for unit in structure.layers[b.end].out_units.tolist()
    }
    multiplied = {
        unit
        for product in structure.products
        if any(name in product.operation for name in ATTENTION)
        for side in product.sides
        for unit in side.tolist()
    }
    count = {"heads": 0, "widths": 0, "streams": 0}
    for group in structure.groups:
        units = set(range(group.start, group.start + group.width))
        layer = structure.layers[group.producers[0]]
        several = int((layer.out_units == group.start).sum()) > 1
        kind = "heads" if units & multiplied and several else "streams" if units & ends else "widths"
        count[kind] += 1
    return count | {"blocks": len(structure.branches)}


def differences(dense: nn.Module, structure: Structure, keep: Tensor, inputs: Any) -> dict[str, float]:
    """How far the outputs of the masked and of the removed network lie apart, relative to their size, with parameters
    that show it; and those of the dense and of the removed network."""
    enliven(dense)
    before = evaluate(dense, inputs)
    with masked(dense, structure, keep):
        expected = evaluate(dense, inputs)
    got = evaluate(remove(dense, structure, keep), inputs)
    return {
        "difference": outputs.difference(expected, got).relative,
        "effect": outputs.difference(before, got).relative,
    }


@torch.no_grad()
def enliven(network: nn.Module) -> None:
    """Other values for what starts at a constant (statistics, scales, shifts) or too small, which would hide what goes
    wrong."""
    generator = torch.Generator().manual_seed(0)

    def uniform(tensor: Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    for module in network.modules():
        if isinstance(getattr(module, "running_mean", None), Tensor):
            uniform(module.running_mean, -0.5, 0.5)
            uniform(module.running_var, 0.7, 1.4)
    for parameter in network.parameters():
        if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
            uniform(parameter, 0.5, 1.0)
        if parameter.ndim >= 2:
            wanted, size = parameter[0].numel() ** -0.5, float(parameter.std(unbiased=False))
            if 0.0 < size < wanted:
                parameter.mul_(wanted / size)
