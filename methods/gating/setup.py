"""What consensus gating derives from a network and its options before the first step."""

from __future__ import annotations

import torch
from greenprune.methods.base import Skip
from greenprune.methods.budget import reach
from greenprune.methods.budget import select as budget
from greenprune.methods.cost.costs import Cost
from greenprune.methods.cost.kinds import MEASURED, CostKind
from greenprune.methods.cost.measured_cost import CostTable
from greenprune.methods.gating import leaving
from greenprune.methods.gating.options import GatingOptions
from greenprune.methods.structure import surgery
from greenprune.methods.structure.inputs import ExampleInputs, Inputs
from greenprune.methods.structure.remnant import with_remnants
from greenprune.methods.structure.units import Structure
from torch import Tensor, nn

REMNANT_SHARE = 1.0 / 3.0
"""Of the budget, that remnants may take when every branch that leaves one is closed."""


def check_arguments(keep: float, steps: int, round_to: int) -> None:
    """Raise a ValueError that names the argument out of range and what is allowed."""
    if not 0.0 < keep <= 1.0:
        raise ValueError(f"keep = {keep}: allowed is a fraction of the dense cost above 0 and at most 1")
    if steps < 1:
        raise ValueError(f"steps = {steps}: allowed is at least 1")
    if round_to < 1:
        raise ValueError(f"round_to = {round_to}: allowed is at least 1")


def check_budget(
    structure: Structure, gated: Tensor, keep: float, tolerance: float, cost: Cost, round_to: int
) -> reach.Nearest | None:
    """Whether there is something to gate, and enough of it; see `reach.check_budget`.

    Args:
        gated: (U,) bool, see `gated_units`.

    Raises:
        Skip: nothing in the network can be gated.
        BudgetError: `keep` lies below what the rest of the network costs; names the floor.
    """
    if not gated.any():
        reasons = "; ".join(f"{name}: {why}" for name, why in structure.fixed[:3])
        raise Skip(f"nothing in this network can be gated ({reasons or 'no convolution, no residual branch'})")
    return reach.check_budget(structure, keep, tolerance, gated, cost, round_to)


def check_inputs(model: nn.Module, example_inputs: ExampleInputs) -> Inputs:
    """Run `model` on `example_inputs` once, in eval mode; the inputs, normalised.

    Raises:
        ValueError: it is a compiled module, `example_inputs` is no batch, or the model does not take it.
    """
    if hasattr(model, "_orig_mod"):
        raise ValueError("a compiled model cannot be traced: give the model itself, and compile the gating instead")
    inputs = Inputs.of(example_inputs)
    try:
        surgery.evaluate(model, inputs)
    except Exception as e:  # the user's own forward: anything may come out
        why = str(e) or type(e).__name__
        raise ValueError(f"example_inputs of {inputs.describe()} do not fit the model: {why}") from e
    return inputs


def check_optimizer(gating: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Raise a ValueError unless `optimizer` holds every parameter of `gating` that learns. It may hold others too."""
    given = {id(p) for group in optimizer.param_groups for p in group["params"]}
    own = {id(p): p.requires_grad for p in gating.parameters()}
    missing = sum(learns and p not in given for p, learns in own.items())
    if missing:
        foreign = sum(p not in own for p in given)
        raise ValueError(
            f"step(optimizer): {foreign} of the {len(given)} parameters of this optimizer are not of the network, and "
            f"{missing} of the network's {len(own)} are not in it; give the optimizer made of gating.parameters() "
            "(what is not to learn: requires_grad = False)"
        )


def gated_units(structure: Structure, options: GatingOptions) -> Tensor:
    """(U,) bool: the units that get a gate under `options`."""
    gated = torch.zeros(structure.units, dtype=torch.bool)
    closing = [structure.layers.get(f"{b.end}.out_proj", structure.layers.get(b.end)) for b in structure.branches]
    ends = torch.cat([c.out_units for c in closing if c is not None] or [torch.empty(0, dtype=int)])
    for group in structure.groups:
        in_stream = bool(torch.isin(torch.arange(group.start, group.start + group.width), ends).any())
        # A mask for each image cannot be put on weights.
        owners = {structure.layers[name].owner for name in group.producers}
        can = owners == {None} or (
            options.execution != "per_sample" and "" not in owners
        )  # around the network is no place
        gated[group.units] = can and options.channels and (options.streams or not in_stream)
    for branch in structure.branches:
        gated[branch.unit] = options.layers
    return gated


def remnant_structure(
    structure: Structure,
    model: nn.Module,
    options: GatingOptions,
    keep: float,
    cost: CostKind,
    table: CostTable | None = None,
) -> Structure:
    """`structure` with the remnants that closed branches leave under `options`, see `GatingOptions.closed_layers`."""
    if options.closed_layers == "removed" or options.streams or not options.layers:
        return structure
    if cost in MEASURED:
        assert table is not None
        return leaving.chosen(structure, model, table, options, keep * REMNANT_SHARE)
    found = with_remnants(structure, model, options.closed_layers)
    left = [b.unit for b in found.branches if b.remnant is not None]
    if not left:
        return structure
    closed = torch.ones(structure.units)
    closed[left] = 0.0
    with_them, without = (float(budget.make_cost(cost, s, model)(closed)) for s in (found, structure))
    return found if with_them - without <= keep * REMNANT_SHARE else structure


def price_weights(cost: Cost, balance: float) -> Tensor:
    """(U,) weight of each gate's gradient: (median cost of a unit / cost of this unit) ** balance.

    A layer's gate collects the gradient of all its channels, so it would always decide first; and of two units that
    matter equally the dearer one should go.
    """
    prices = cost.prices().clamp_min(1e-12)
    return (prices.median() / prices).pow(balance)
