"""The tables of a network's layers, from what was found of its channels and branches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from greenprune.methods.structure.coupling import Coupled, Coupling, Products
from greenprune.methods.structure.macs import TRANSPOSED
from greenprune.methods.structure.masking import layer_norm_dim
from greenprune.methods.structure.observed import Observed
from greenprune.methods.structure.units import (
    ALWAYS_OPEN,
    BATCH_NORMS,
    FIXED,
    Branch,
    ChannelGroup,
    ChannelParameter,
    Layer,
    Product,
    Structure,
    channel_counts,
    has_channels,
    is_depthwise,
    is_transposed_linear,
    is_writer,
)
from torch import Tensor, nn


def assemble(
    model: nn.Module, run: Observed, couplings: list[Coupling], found: list[Branch], products: Products
) -> Structure:
    """Number the units of all couplings without a reason against them, and fill every layer's tables."""
    modules = {n: m for n, m in model.named_modules() if has_channels(m)}
    tables = {n: [torch.full((c,), FIXED) for c in channel_counts(m)] for n, m in modules.items()}
    order = run.order()
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for coupling in couplings:
        coupling.start = None
    groups: list[ChannelGroup] = []
    parameters: list[ChannelParameter] = []
    sides = {
        (i, side): torch.full((len(ids),), FIXED)
        for i, product in enumerate(products.made)
        for side, ids in ([(-1, product.rows)] if product.layer is not None else enumerate(product.sides))
        if ids is not None
    }
    start = 0
    free = [c for c in couplings if c.reason is None]
    for coupling in sorted(free, key=lambda c: min(order.get(p, len(order)) for p in c.producers)):
        producers = tuple(sorted(coupling.producers, key=lambda p: order.get(p, len(order))))
        groups.append(ChannelGroup(producers[0], start, coupling.width, producers))
        for name, side, channels, units in coupling.members:
            for i in (0, 1) if not is_writer(modules[name]) else (side == "in",):
                tables[name][i][channels] = torch.tensor(units, dtype=torch.long) + start
        for name, dim, entries, units in coupling.parameters:
            table = torch.full((tensors[name].shape[dim],), FIXED)
            table[entries] = torch.tensor(units, dtype=torch.long) + start
            parameters.append(ChannelParameter(name, dim, table))
        for number, part, entries, units in coupling.products:
            sides[number, part][entries] = torch.tensor(units, dtype=torch.long) + start
        coupling.start = start
        start += coupling.width
    branches = tuple(replace(b, unit=start + i) for i, b in enumerate(found))
    inside = {  # by branch: what lies between its own layers
        b.unit: products.lineage.between([m for m in b.modules if m in modules], b.end) for b in branches
    }
    rows = {p.layer: sides[i, -1] for i, p in enumerate(products.made) if (i, -1) in sides}
    normed = _normed(tables, modules)
    layers = {}
    for name, module in modules.items():
        out, into = tables[name]
        own = out[out != FIXED]
        if is_writer(module):
            masks = not bool(normed[own].all())
        else:
            masks = isinstance(module, (*BATCH_NORMS, nn.LayerNorm, nn.GroupNorm)) and len(own) > 0
        is_layer_norm = isinstance(module, nn.LayerNorm) and name in run.shapes
        layers[name] = Layer(
            name,
            out,
            into,
            run.macs.get(name, 0),
            branches=tuple(b.unit for b in branches if b.holds(name)),
            depthwise=is_depthwise(module),
            masks_output=masks,
            owner=run.owners.get(name),
            turned=isinstance(module, TRANSPOSED) or is_transposed_linear(module),
            channel_dim=(layer_norm_dim(module, run.shapes[name]) or 1) if is_layer_norm else 1,
            row_units=rows.get(name, ALWAYS_OPEN),
        )
    return Structure(
        tuple(groups),
        branches,
        layers,
        parameters=tuple(parameters),
        products=_products(run, products, sides, branches, inside),
        uncounted=tuple(run.uncounted),
    )


def _products(
    run: Observed,
    products: Products,
    sides: dict[tuple[int, int], Tensor],
    branches: tuple[Branch, ...],
    inside: dict[int, set[Any]],
) -> tuple[Product, ...]:
    if not products.made:  # nothing is known of their channels
        return tuple(Product(name, operation, macs) for (name, operation), macs in run.others.items())
    result = []
    for i, product in enumerate(products.made):
        if product.layer is None:
            own = tuple(t for side in range(len(product.sides)) if (t := sides[i, side]).ne(FIXED).any())
            within = tuple(
                b.unit
                for b in branches
                if b.holds(product.module) or (product in inside[b.unit] and not b.multiplies_zeros)
            )
            macs = product.macs // products.batch
            result.append(Product(product.module, product.operation, macs, own, within))
    return tuple(result)


def sizes_of(found: Coupled) -> dict[tuple[int, int, int], Tensor]:
    """`shapes.Tables` of what can be removed, in the numbering of `assemble`."""
    tables: dict[tuple[int, int, int], Tensor] = {}
    for coupling in found.couplings:
        for key, entries, units in coupling.sizes if coupling.start is not None else ():
            note, part, dim = key
            if key not in tables:
                shape = found.notes[note].before[0] if part < 0 else found.notes[note].after[part][0]
                tables[key] = torch.full((shape[dim],), FIXED)
            tables[key][entries] = torch.tensor(units, dtype=torch.long) + coupling.start
    return tables


def _normed(tables: dict[str, list[Tensor]], modules: dict[str, nn.Module]) -> Tensor:
    """(units + 1,) bool: the units that a batch norm sees, where masking costs nothing; FIXED (the last) counts as one."""
    top = max((int(t.max()) for pair in tables.values() for t in pair if len(t)), default=FIXED)
    normed = torch.zeros(top + 2, dtype=torch.bool)
    normed[FIXED] = True
    for name, module in modules.items():
        if isinstance(module, BATCH_NORMS):
            normed[tables[name][0]] = True
    return normed
