"""What gating can remove from a network, and what it can't and why, for people."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from greenprune.methods.budget.select import floor
from greenprune.methods.cost.costs import MacCost
from greenprune.methods.gating.options import GatingOptions
from greenprune.methods.gating.setup import gated_units
from greenprune.methods.structure.inputs import ExampleInputs
from greenprune.methods.structure.remnant import with_remnants
from greenprune.methods.structure.trace import trace
from greenprune.methods.structure.units import Structure
from torch import nn


class Ungateable(NamedTuple):
    """Something that cannot be removed.

    Attributes:
        name: of the layer that writes the channels, or of the module that holds the residual branch ("" is the network).
        reason: one phrase.
        kind: "channels" or "branch".
    """

    name: str
    reason: str
    kind: Literal["channels", "branch"]


def ungateable(model: nn.Module, example_inputs: ExampleInputs) -> tuple[Ungateable, ...]:
    """Everything in `model` that gating cannot remove, and why: channels first, each kind in the order of execution.

    Args:
        model: any module; left as it was.
        example_inputs: what it is called with, on its device: a tensor, a tuple of positional arguments, a dict of keyword
            arguments, or `Inputs(args, kwargs)`.

    Raises:
        ValueError: the network does not run on `example_inputs`, or returns no tensor.
    """
    return _ungateable(trace(model, example_inputs))


def _ungateable(structure: Structure) -> tuple[Ungateable, ...]:
    return (
        *(Ungateable(name, reason, "channels") for name, reason in structure.fixed),
        *(Ungateable(name, reason, "branch") for name, reason in structure.fixed_branches),
    )


def describe(model: nn.Module, example_inputs: ExampleInputs, options: GatingOptions | None = None) -> str:
    """A table of what gating can remove: groups of channels with their widths, residual branches, MACs, the floor.

    "MACs" is the share of the network's MACs that goes when everything in the row is removed (with coupled layers, so
    the rows do not add up to 1). Of a branch that can leave a remnant (`GatingOptions.closed_layers`) its share is told too.
    Below the table: the share of all MACs that some gate shrinks or removes, the share that is multiplied without a layer's
    weight, and operations that multiply and cannot be counted.
    The floor is the smallest budget that `ConsensusGating` accepts with these options.

    Args, Raises: as for `ungateable`; options: default all defaults.
    """
    structure = trace(model, example_inputs)
    options = options or GatingOptions()
    gated = gated_units(structure, options)
    rows = [("what", "units", "MACs", "gated", "layers that write it, what stays")]
    for group in structure.groups:
        chosen = "yes" if gated[group.start] else "no (option)"
        writers = f"{len(group.producers)}" if len(group.producers) > 1 else ""
        rows.append((group.name, str(group.width), _share(structure, group.units), chosen, writers))
    if options.closed_layers == "removed" or options.streams:
        branches = structure.branches
    else:
        branches = with_remnants(structure, model, options.closed_layers).branches
    for branch in branches:
        left = "" if branch.remnant is None else f"closed, it may leave {sum(branch.remnant.macs) / structure.macs:.1%}"
        share = _share(structure, slice(branch.unit, branch.unit + 1))
        rows.append((f"branch {branch.name}", "1", share, "yes" if gated[branch.unit] else "no (option)", left))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    least = floor(structure, gated) if structure.units else 1.0
    reached = MacCost(structure).share_under(gated) if structure.units else 0.0
    lines += [
        "",
        f"{structure.macs:,} MACs for one input, {reached:.1%} of them under gates; the floor of a budget is {least:.3f} "
        "of them",
        *_products(structure, gated),
    ]
    fixed = _ungateable(structure)
    if fixed:
        lines += ["", "cannot be gated:"]
        lines += [f"  {kind} {name or '(the network)'}: {reason}" for name, reason, kind in fixed]
    return "\n".join(lines)


def _products(structure: Structure, gated: torch.Tensor) -> list[str]:
    """What is multiplied without a layer's weight (attention, recurrent layers), and what cannot be counted."""
    lines = []
    if structure.products:
        macs = sum(p.macs for p in structure.products)
        padded = torch.cat([gated, torch.zeros(1, dtype=torch.bool)])  # FIXED is -1: the last entry
        stuck = [
            p
            for p in structure.products
            if not (padded[list(p.branches)].any() or any(padded[s].any() for s in p.sides))
        ]
        line = (
            f"{macs / structure.macs:.1%} of them without a layer's weight (products of activations, recurrent layers)"
        )
        if stuck:
            names = list(dict.fromkeys(p.name or "(the network)" for p in stuck))
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            line += f"; no gate reaches those in {', '.join(names[:3])}{more}"
        lines.append(line)
    if structure.uncounted:
        told = ", ".join(f"{operation} in {name or '(the network)'}" for operation, name in structure.uncounted)
        lines.append(f"not counted, and not free: {told}")
    return lines


def _share(structure: Structure, units: slice) -> str:
    openness = torch.ones(structure.units)
    openness[units] = 0.0
    return f"{1.0 - float(MacCost(structure)(openness)):.1%}"
