"""Which channels are coupled, as units and groups, from what `flow` saw in a forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from greenprune.methods.structure.flow.elements import Ids
from greenprune.methods.structure.flow.lineage import Lineage
from greenprune.methods.structure.flow.products import Multiplication
from greenprune.methods.structure.flow.recorder import Recorder, record
from greenprune.methods.structure.flow.rules import RULES
from greenprune.methods.structure.flow.sites import Note
from greenprune.methods.structure.macs import TRANSPOSED
from greenprune.methods.structure.units import (
    has_channels,
    is_attention,
    is_depthwise,
    is_transposed_linear,
    is_writer,
    projections,
)
from torch import nn
from torch.nn.utils.parametrize import is_parametrized


@dataclass
class Coupling:
    """Channels that can only be removed together, unit by unit.

    Attributes:
        width: number of units.
        members: (module name, "out" or "in", channels of it, unit of each).
        parameters: (parameter or buffer name, dimension, entries along it, unit of each).
        products: (number of the product, number of its side, entries of it, unit of each).
        sizes: (note, part and dimension, see `shapes.Tables`; entries along it, unit of each).
        producers: convolution and linear layers that write these channels.
        reason: why they cannot be removed, or None.
        start: number of the first of its units in the structure; None: it is not in it.
    """

    width: int
    members: list[tuple[str, str, list[int], list[int]]] = field(default_factory=list)
    parameters: list[tuple[str, int, list[int], list[int]]] = field(default_factory=list)
    products: list[tuple[int, int, list[int], list[int]]] = field(default_factory=list)
    sizes: list[tuple[tuple[int, int, int], list[int], list[int]]] = field(default_factory=list)
    producers: set[str] = field(default_factory=set)
    reason: str | None = None
    start: int | None = None


Side = tuple[str, str | int]
"""(module name, "out" or "in"), or (parameter name, dimension)."""


@dataclass
class Products:
    """What was multiplied in a pass of `batch` inputs, and what led to what; see `flow`."""

    batch: int = 1
    made: list[Multiplication] = field(default_factory=list)
    lineage: Lineage = field(default_factory=Lineage)


@dataclass
class Coupled:
    """What `find_couplings` found.

    Attributes:
        couplings: the channels that hang together.
        failure: why the pass could not be followed, or None.
        notes: the operations that were given sizes.
        users: name of a parameter -> the module at work when it was used.
        products: what was multiplied.
    """

    couplings: list[Coupling]
    failure: str | None = None
    notes: list[Note] = field(default_factory=list)
    users: dict[str, str] = field(default_factory=dict)
    products: Products = field(default_factory=Products)


def find_couplings(model: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> Coupled:
    """All couplings of a network in eval mode; none, and why, when the pass could not be followed."""
    try:
        seen = record(model, args, kwargs, RULES)
    except Exception as error:  # the user's code under a tracer: anything may come out
        why = str(error).strip().splitlines()
        return Coupled([], f"its operations could not be followed ({type(error).__name__}: {why[0] if why else ''})")
    sides = _sides(model, seen)
    for (name, _), ids in sides.items():
        reason = _refusal(model, name)
        if reason is not None:
            seen.elements.fix(ids, reason)
    roots = {side: seen.elements.find(ids) for side, ids in sides.items()}
    writers = {side: ids for side, ids in roots.items() if side[1] == "out" and is_writer(_module(model, side[0]))}
    result = _groups(_clusters(list(writers.values())), roots, model, _sides_of_products(seen), _given_sizes(seen))
    for name, module in model.named_modules():
        if not is_writer(module):
            continue
        written = sides.get((name, "out"))
        reason = None
        if written is None:
            reason = _refusal(model, name)
        elif seen.elements.is_fixed(written).all():
            reason = seen.elements.reason(written) or "they cannot be removed"
        if reason is not None:
            result.append(Coupling(0, producers={name}, reason=reason))
    products = Products(made=seen.products, lineage=seen.lineage)
    return Coupled(result, None, seen.notes, seen.users, products)


def _given_sizes(seen: Recorder) -> dict[tuple[int, int, int], Ids]:
    """The elements of every dimension that went into or came out of a noted operation."""
    found = {}
    for i, note in enumerate(seen.notes):
        for part, (_, labels) in enumerate((note.before, *note.after), start=-1):
            for block in seen.labeller.tidy(labels):
                if len(block.dims) == 1:
                    found[i, part, block.dims[0]] = block.ids
    return found


def _sides_of_products(seen: Recorder) -> dict[tuple[int, int], Ids]:
    """By the number of the product and of its side; the rows of a layer's product are side -1."""
    found: dict[tuple[int, int], Ids] = {}
    for i, product in enumerate(seen.products):
        if product.layer is not None:
            if product.rows is not None:
                found[i, -1] = product.rows
        else:
            found.update({(i, side): ids for side, ids in enumerate(product.sides)})
    return {key: seen.elements.find(ids) for key, ids in found.items()}


def _module(model: nn.Module, name: str) -> nn.Module | None:
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None  # a parameter


def _sides(model: nn.Module, seen: Recorder) -> dict[Side, Ids]:
    """The elements of everything that can be cut: both sides of layers, norms, and single parameters and buffers."""
    modules = {name: m for name, m in model.named_modules() if has_channels(m)}
    sides: dict[Side, Ids] = {(name, "out"): ids for name, ids in seen.norms.items()}
    for name, dims in seen.parameters.items():
        owner, _, leaf = name.rpartition(".")
        module = modules.get(owner)
        if module is not None and leaf in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
            rows = [seen.parameters.get(f"{owner}.{p}" if owner else p) for p in projections(module)]
            if all(r is not None for r in rows):
                sides[owner, "out"] = np.concatenate([r[0] for r in rows])  # type: ignore[index]
            sides[(owner, "in") if leaf[0] == "q" else (name, 1)] = dims[1]
        elif module is not None and is_writer(module) and leaf not in ("bias_k", "bias_v"):
            if leaf in ("weight", "in_proj_weight"):
                turned = isinstance(module, TRANSPOSED) or is_transposed_linear(module)
                out, into = (1, 0) if turned else (0, 1)
                if is_depthwise(module):  # whole groups: what is written says it all
                    out, into = (0, 0)
                    sides[owner, "out"] = _per_channel(module, dims[0], transposed=isinstance(module, TRANSPOSED))
                    continue
                sides[owner, "out"], sides[owner, "in"] = dims[out], dims[into]
        elif module is None or is_writer(module):
            for d, ids in enumerate(dims):
                sides[name, d] = ids
        elif isinstance(module, nn.PReLU) and module.num_parameters > 1:
            sides[owner, "out"] = dims[0]
    return sides


def _per_channel(module: nn.Module, rows: Ids, *, transposed: bool) -> Ids:
    """Elements of the output channels of a grouped convolution, whose weight has `rows` along its first dimension."""
    if not transposed:
        return rows
    groups: int = module.groups  # type: ignore[assignment]
    return np.repeat(rows.reshape(groups, -1)[:, 0], module.out_channels // groups)  # type: ignore[operator]


def _refusal(model: nn.Module, name: str) -> str | None:
    """Why what belongs to a module (or parameter) cannot be cut whatever it is coupled to, or None."""
    module = _module(model, name)
    if module is None or not has_channels(module):
        return None
    own_weight = is_attention(module) or "weight" in module._parameters
    if is_parametrized(module) or (is_writer(module) and not own_weight):
        return f"the weight of {name} is computed from other parameters (a parametrization)"
    owners = Counter(p for m in model.modules() for p in m._parameters.values() if p is not None)
    if any(owners[p] > 1 for p in module.parameters()):
        return f"{name} shares its weights with another module"
    return None


def _clusters(sides: Sequence[Ids]) -> dict[int, int]:
    """Number of the cluster of every removable element: those that one layer writes are in one."""
    cluster_of: dict[int, int] = {}
    for number, ids in enumerate(sides):
        elements = [int(e) for e in np.unique(ids) if e]
        merged = {cluster_of[e] for e in elements if e in cluster_of}
        if merged:
            for element, cluster in cluster_of.items():
                if cluster in merged:
                    cluster_of[element] = number
        cluster_of.update(dict.fromkeys(elements, number))
    return cluster_of


def _groups(
    cluster_of: Mapping[int, int],
    roots: Mapping[Side, Ids],
    model: nn.Module,
    products: Mapping[tuple[int, int], Ids],
    sizes: Mapping[tuple[int, int, int], Ids],
) -> list[Coupling]:
    """One coupling for each cluster, with its entries of every side. What no layer writes is left out."""
    units: dict[int, dict[int, int]] = {}  # cluster -> element -> number of its unit
    result: dict[int, Coupling] = {}

    def numbered(ids: Ids) -> dict[int, tuple[list[int], list[int]]]:
        entries: dict[int, tuple[list[int], list[int]]] = {}
        for entry, element in enumerate(ids.tolist()):
            cluster = cluster_of.get(element)
            if cluster is not None:
                own = units.setdefault(cluster, {})
                channels, numbers = entries.setdefault(cluster, ([], []))
                channels.append(entry)
                numbers.append(own.setdefault(element, len(own)))
        return entries

    def add(name: str | tuple[int, int, int], side: str | int, ids: Ids) -> None:
        for cluster, found in numbered(ids).items():
            coupling = result.setdefault(cluster, Coupling(0))
            if not isinstance(name, str):
                coupling.sizes.append((name, *found))
            elif isinstance(side, int):
                coupling.parameters.append((name, side, *found))
            else:
                coupling.members.append((name, side, *found))
                if side == "out" and is_writer(_module(model, name)):
                    coupling.producers.add(name)

    for (name, side), ids in sorted(roots.items(), key=lambda item: item[0][1] != "out"):
        add(name, side, ids)
        module = _module(model, name)
        if side == "out" and module is not None and is_depthwise(module):
            add(name, "in", _inputs_of_groups(module, ids))
    for (number, part), ids in products.items():
        for cluster, found in numbered(ids).items():
            if cluster in result:
                result[cluster].products.append((number, part, *found))
    for key, ids in sizes.items():
        add(key, "size", ids)
    for cluster, coupling in result.items():
        coupling.width = len(units[cluster])
        if coupling.width == 1 and any(len(channels) > 1 for _, _, channels, _ in coupling.members):
            coupling.reason = "they can only go all together"
    return list(result.values())


def _inputs_of_groups(module: nn.Module, out: Ids) -> Ids:
    """Elements of the input channels of a grouped convolution, which are those of its groups' outputs."""
    groups, channels = int(module.groups), int(module.in_channels)  # type: ignore[arg-type]
    return np.repeat(out.reshape(groups, -1)[:, 0], channels // groups)
