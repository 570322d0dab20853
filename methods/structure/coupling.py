"""Which channels are coupled, as units and groups, from what `flow` saw in a forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from greenprune.methods.structure.flow.elements import Ids
from greenprune.methods.structure.flow.recorder import Recorder, record
from greenprune.methods.structure.flow.rules import RULES
from greenprune.methods.structure.macs import COUNTED
from greenprune.methods.structure.units import CHANNEL_MODULES, TRANSPOSED, is_depthwise
from torch import nn
from torch.nn.utils.parametrize import is_parametrized


@dataclass
class Coupling:
    """Channels that can only be removed together, unit by unit.

    Attributes:
        width: number of units.
        members: (module name, "out" or "in", channels of it, unit of each).
        parameters: (parameter or buffer name, dimension, entries along it, unit of each).
        producers: convolution and linear layers that write these channels.
        reason: why they cannot be removed, or None.
    """

    width: int
    members: list[tuple[str, str, list[int], list[int]]] = field(default_factory=list)
    parameters: list[tuple[str, int, list[int], list[int]]] = field(default_factory=list)
    producers: set[str] = field(default_factory=set)
    reason: str | None = None


Side = tuple[str, str | int]
"""(module name, "out" or "in"), or (parameter name, dimension)."""


def find_couplings(model: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> tuple[list[Coupling], str | None]:
    """All couplings of a network in eval mode; none, and why, when the pass could not be followed."""
    try:
        seen = record(model, args, kwargs, RULES)
    except Exception as error:  # the user's code under a tracer: anything may come out
        why = str(error).strip().splitlines()
        return [], f"its operations could not be followed ({type(error).__name__}: {why[0] if why else ''})"
    sides = _sides(model, seen)
    for (name, _), ids in sides.items():
        reason = _refusal(model, name)
        if reason is not None:
            seen.elements.fix(ids, reason)
    roots = {side: seen.elements.find(ids) for side, ids in sides.items()}
    result = [_group(cluster, roots, model) for cluster in _clusters(roots)]
    writes = {name: ids for (name, side), ids in sides.items() if side == "out" and isinstance(_module(model, name), COUNTED)}
    for name, ids in writes.items():
        if seen.elements.is_fixed(ids).all():
            result.append(Coupling(0, producers={name}, reason=seen.elements.reason(ids) or "they cannot be removed"))
    return result, None


def _module(model: nn.Module, name: str) -> nn.Module | None:
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None  # a parameter


def _sides(model: nn.Module, seen: Recorder) -> dict[Side, Ids]:
    """The elements of everything that can be cut: both sides of layers, norms, and single parameters and buffers."""
    modules = {name: m for name, m in model.named_modules() if isinstance(m, CHANNEL_MODULES)}
    sides: dict[Side, Ids] = {(name, "out"): ids for name, ids in seen.norms.items()}
    for name, dims in seen.parameters.items():
        owner, _, leaf = name.rpartition(".")
        module = modules.get(owner)
        if isinstance(module, COUNTED):
            if leaf == "weight":
                out, into = (1, 0) if isinstance(module, TRANSPOSED) else (0, 1)
                if is_depthwise(module):  # whole groups: what is written says it all
                    out, into = (0, 0)
                    sides[owner, "out"] = _per_channel(module, dims[0], transposed=isinstance(module, TRANSPOSED))
                    continue
                sides[owner, "out"], sides[owner, "in"] = dims[out], dims[into]
        elif module is None:
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
    if module is None or not isinstance(module, CHANNEL_MODULES):
        return None
    if is_parametrized(module) or (isinstance(module, COUNTED) and "weight" not in module._parameters):
        return f"the weight of {name} is computed from other parameters (a parametrization)"
    owners = Counter(p for m in model.modules() for p in m._parameters.values() if p is not None)
    if any(owners[p] > 1 for p in module.parameters()):
        return f"{name} shares its weights with another module"
    return None


def _clusters(roots: Mapping[Side, Ids]) -> list[list[Side]]:
    """Sides that share a removable element, as lists, in order of first appearance."""
    cluster_of: dict[int, int] = {}  # element -> number of its cluster
    clusters: dict[int, list[Side]] = {}
    for number, (side, ids) in enumerate(roots.items()):
        elements = [int(e) for e in np.unique(ids) if e]
        if not elements:
            continue
        merged = {cluster_of[e] for e in elements if e in cluster_of}
        clusters[number] = [side]
        for other in sorted(merged):
            clusters[number] = clusters.pop(other) + clusters[number]
        for element, cluster in cluster_of.items():
            if cluster in merged:
                cluster_of[element] = number
        cluster_of.update(dict.fromkeys(elements, number))
    return list(clusters.values())


def _group(cluster: list[Side], roots: Mapping[Side, Ids], model: nn.Module) -> Coupling:
    units: dict[int, int] = {}
    for side in cluster:
        for element in roots[side].tolist():
            if element:
                units.setdefault(element, len(units))
    result = Coupling(width=len(units))
    for name, side in cluster:
        ids = roots[name, side]
        entries = np.flatnonzero(ids).tolist()
        own = [units[e] for e in ids[entries].tolist()]
        if isinstance(side, int):
            result.parameters.append((name, side, entries, own))
            continue
        result.members.append((name, side, entries, own))
        module = _module(model, name)
        if isinstance(module, COUNTED):
            if side == "out":
                result.producers.add(name)
                if is_depthwise(module):
                    result.members.append((name, "in", *_inputs_of_groups(module, ids, units)))
    if not result.producers:
        result.reason = "no layer writes them"
    elif result.width == 1 and any(len(channels) > 1 for _, _, channels, _ in result.members):
        result.reason = "they can only go all together"
    return result


def _inputs_of_groups(module: nn.Module, out: Ids, units: Mapping[int, int]) -> tuple[list[int], list[int]]:
    """Input channels of a grouped convolution and their units, which are those of its groups' outputs."""
    groups, channels = int(module.groups), int(module.in_channels)  # type: ignore[arg-type]
    per_group = out.reshape(groups, -1)[:, 0]
    ids = np.repeat(per_group, channels // groups)
    entries = np.flatnonzero(ids).tolist()
    return entries, [units[e] for e in ids[entries].tolist()]
