"""Shrinking while the search goes on: which gates have agreed long enough, and taking what they closed out of the network.

Units keep the numbers they had in the dense network throughout: budgets stay fractions of the dense cost, and histories
stay comparable. Only the tables of the layers (`remaining`) follow what is physically there.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from greenprune.methods.gating.heads import GateHead
from greenprune.methods.gating.wiring import unwrap
from greenprune.methods.gating.wrappers import Gated
from greenprune.methods.structure import surgery
from greenprune.methods.structure.places import put
from greenprune.methods.structure.units import FIXED, Shapes, Structure
from torch import Tensor, nn

GONE, UNDECIDED, OPEN = -1, 0, 1
"""What became of a unit's gate: removed, still learning, open for good (or never gated)."""


def agreement(run: Tensor, consensus: Tensor, settled: float) -> Tensor:
    """How long each gate has agreed: steps in a row above 1 - `settled` (positive) or below `settled` (negative).

    Args:
        run: (U,) int, the result of the step before.
        consensus: (U,) in [0, 1].
        settled: in (0, 0.5).

    Returns:
        (U,) int; 0 where the consensus lies in between now.
    """
    above, below = run.clamp_min(0) + 1, run.clamp_max(0) - 1
    return above * (consensus > 1.0 - settled) + below * (consensus < settled)


def agreed(decided: Tensor, run: Tensor, patience: int, now: Tensor, final: Tensor) -> tuple[Tensor, Tensor]:
    """The units to remove and those to open for good.

    A gate that was unanimous for `patience` steps still waits while the budget would have it otherwise, now or at the end.
    As everything that is removed is closed in `final`, and all that is opened is open in it, `final` stays within reach.

    Args:
        decided: (U,) GONE, UNDECIDED or OPEN.
        run: (U,) see `agreement`.
        patience: in steps.
        now: (U,) bool, the units open at the budget in force.
        final: (U,) bool, a selection that meets the final budget.

    Returns:
        (U,) bool and (U,) bool.
    """
    undecided = decided == UNDECIDED
    return undecided & (run <= -patience) & ~now & ~final, undecided & (run >= patience) & now & final


def inside_undecided_remnants(structure: Structure, decided: Tensor) -> Tensor:
    """(U,) bool: channels inside branches that may still close and leave a remnant, which needs all of them.

    Args:
        decided: (U,) GONE, UNDECIDED or OPEN.
    """
    inside = torch.zeros(structure.units, dtype=torch.bool)
    for branch in structure.branches:
        if branch.remnant is not None and decided[branch.unit] == UNDECIDED:
            inside[structure.channels_inside(branch.unit)] = True
    return inside.to(decided.device)


def remaining(structure: Structure, keep: Tensor) -> Structure:
    """`structure` after the removal of what `keep` (U,) closes: layers and branches that are left, tables of the channels left.

    Unit numbers, groups and the layers' MACs remain those of the dense network.
    """
    keep = keep.cpu()
    padded = torch.cat([keep, torch.ones(1, dtype=torch.bool)])  # FIXED is -1: the last entry
    return replace(
        structure,
        branches=tuple(b for b in structure.branches if keep[b.unit]),
        layers={
            name: replace(
                layer,
                out_units=layer.out_units[padded[layer.out_units]],
                in_units=layer.in_units[padded[layer.in_units]],
                row_units=layer.row_units[padded[layer.row_units]],
            )
            for name, layer in structure.layers.items()
            if all(keep[b] for b in layer.branches)
        },
        parameters=tuple(replace(p, units=p.units[padded[p.units]]) for p in structure.parameters),
        products=tuple(
            replace(p, sides=tuple(side[padded[side]] for side in p.sides))
            for p in structure.products
            if all(keep[b] for b in p.branches)
        ),
        shapes=tuple(_shapes_left(s, padded) for s in structure.shapes),
    )


def _shapes_left(shapes: Shapes, padded: Tensor) -> Shapes:
    def left(units: Tensor) -> Tensor:
        return units[padded[units]]

    return replace(
        shapes,
        attributes=tuple(replace(a, units=left(a.units)) for a in shapes.attributes),
        calls=tuple(replace(c, sizes=tuple((i, left(t), s) for i, t, s in c.sizes)) for c in shapes.calls),
    )


def present(structure: Structure, units: int) -> Tensor:
    """(units,) bool: the units that occur in the layers and branches of `structure`; the others went with their layer."""
    result = torch.zeros(units, dtype=torch.bool)
    for layer in structure.layers.values():
        result[layer.out_units[layer.out_units != FIXED]] = True
    for branch in structure.branches:
        result[branch.unit] = True
    return result


def remove_units(
    network: nn.Module,
    structure: Structure,
    keep: Tensor,
    undecided: Tensor,
    optimizer: torch.optim.Optimizer | None = None,
) -> tuple[nn.Module, Structure]:
    """Remove what `keep` closes from a network under gates, and the gates that have nothing left to decide.

    Args:
        network: with `Gated` wrappers; cut in place.
        structure: of the network as it is.
        keep: (U,) bool.
        undecided: (U,) bool, the units that still need a gate.
        optimizer: its parameters and state are cut to match.

    Returns:
        `network` (or its replacement, see `surgery.remove`) and its structure now.
    """
    wrappers = {m.name: m for m in network.modules() if isinstance(m, Gated)}
    heads = [p for w in wrappers.values() if w.head is not None for p in w.head.parameters()]
    unwrap(network)
    network = surgery.remove(network, structure, keep, optimizer)
    left = remaining(structure, keep)
    # The last entry is for channels without a gate, whose unit is U in a wrapper and FIXED (-1) in a table.
    keep = torch.cat([keep.cpu(), torch.ones(1, dtype=torch.bool)])
    undecided = torch.cat([undecided.cpu(), torch.zeros(1, dtype=torch.bool)])
    for name, wrapper in wrappers.items():
        if not wrapper.is_layer:  # a block of a branch; if that is gone there is nowhere to put it
            features = structure.layers[wrapper.features_of].in_units if wrapper.features_of else None
            wrapper.parts = _narrow_parts(name, wrapper, structure, keep, undecided)
            _narrow(wrapper, keep[:0], keep[:0] if features is None else keep[features], undecided, optimizer)
        elif name in left.layers:
            before = structure.layers[name]
            _narrow(wrapper, keep[before.out_units], keep[before.in_units], undecided, optimizer)
        else:
            continue
        if (
            wrapper.head is not None
            or wrapper.channel_units is not None
            or wrapper.input_units is not None
            or wrapper.branches
            or wrapper.parts
        ):
            put(network, wrapper.inner, wrapper)
    if optimizer is not None:
        kept = {id(p) for p in network.parameters()}
        surgery.forget(optimizer, [p for p in heads if id(p) not in kept])
    return network, left


def _narrow_parts(
    name: str, wrapper: Gated, structure: Structure, keep: Tensor, undecided: Tensor
) -> dict[str, Tensor]:
    """The layers of `wrapper.parts` that have gates left, and the units of the channels that they have left."""
    result = {}
    for part, units in wrapper.parts.items():
        layer = structure.layers[".".join(p for p in (name, part) if p)]
        left = _narrow_mask(units, keep[layer.out_units], undecided)
        if left is not None:
            result[part] = left
    return result


def _narrow(
    wrapper: Gated, keep_out: Tensor, keep_in: Tensor, undecided: Tensor, optimizer: torch.optim.Optimizer | None
) -> None:
    """Bring one wrapper in line with its layer, whose channels `keep_out` and `keep_in` (bool) are left."""
    wrapper.channel_units = _narrow_mask(wrapper.channel_units, keep_out, undecided)
    wrapper.input_units = _narrow_mask(wrapper.input_units, keep_in, undecided)
    wrapper.branches = tuple(b for b in wrapper.branches if undecided[b])
    wrapper.ends = wrapper.ends if wrapper.ends is not None and undecided[wrapper.ends] else None
    if wrapper.head is not None:
        _narrow_head(wrapper, wrapper.head, keep_in, undecided, optimizer)


def _narrow_mask(units: Tensor | None, keep: Tensor, undecided: Tensor) -> Tensor | None:
    """The units of the channels that are left; None when none of them has a gate any more."""
    if units is None:
        return None
    left = units[keep.to(units.device)]
    return left if undecided[left.cpu()].any() else None


def _narrow_head(
    wrapper: Gated, head: GateHead, keep_in: Tensor, undecided: Tensor, optimizer: torch.optim.Optimizer | None
) -> None:
    wrapper.decided_branches = tuple(b for b in wrapper.decided_branches if undecided[b])
    rows = undecided[head.units.cpu()]
    if not rows.any():
        wrapper.head = None
        return
    if not rows.all():
        surgery.cut_rows(head.last, rows.nonzero().flatten(), optimizer)
        head.units = head.units[rows.to(head.units.device)]
    if not keep_in.all():
        features = torch.arange(head.first.in_features) if head.features_left is None else head.features_left.cpu()
        head.features_left = features[keep_in].to(head.units.device)
