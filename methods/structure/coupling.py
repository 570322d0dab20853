"""Which channels are coupled, from Torch-Pruning's dependency graph (Fang et al. 2023, DepGraph)."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch_pruning as tp
from greenprune.methods.structure.macs import CONVOLUTIONS, COUNTED
from greenprune.methods.structure.masking import layer_norm_dim
from greenprune.methods.structure.units import CHANNEL_MODULES, channel_counts, is_depthwise
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass
class Coupling:
    """Channels that can only be removed together, unit by unit.

    Attributes:
        width: number of units.
        members: (module name, "out" or "in", channels of it, unit of each).
        parameters: (parameter name, dimension, entries along it, unit of each).
        producers: convolution and linear layers that write these channels.
        reason: why they cannot be removed, or None.
    """

    width: int
    members: list[tuple[str, str, list[int], list[int]]] = field(default_factory=list)
    parameters: list[tuple[str, int, list[int], list[int]]] = field(default_factory=list)
    producers: set[str] = field(default_factory=set)
    reason: str | None = None


def find_couplings(
    model: nn.Module, example_inputs: Tensor, input_shapes: dict[str, torch.Size]
) -> tuple[list[Coupling], str | None]:
    """All couplings of a network in eval mode; none, and why, when no dependency graph could be built.

    Args:
        input_shapes: of the first input of every module, by name.
    """
    frozen = [p for p in model.parameters() if p.is_floating_point() and not p.requires_grad]
    try:
        for p in frozen:
            p.requires_grad_(True)  # the graph is read off autograd's
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the graph warns of parameters it does not know; we look at those below
            # Through an operation: what has no gradient is not in the graph, and a concatenation would miss a part.
            inputs = example_inputs.detach().clone().requires_grad_() * 1.0
            graph = tp.DependencyGraph().build_dependency(model, example_inputs=(inputs,), verbose=False)
            groups = list(graph.get_all_groups(root_module_types=[*CONVOLUTIONS, nn.Linear]))
            refusal = _Refusals(model, input_shapes)
            return _merge([_coupling(graph, group, refusal) for group in groups], dict(model.named_modules())), None
    except Exception as error:  # somebody else's tracing of the user's code: anything may come out
        why = str(error).strip().splitlines()
        return [], f"no dependency graph could be built ({type(error).__name__}: {why[0] if why else ''})"
    finally:
        for p in frozen:
            p.requires_grad_(False)


def _coupling(graph: tp.DependencyGraph, group: Sequence, refusal: _Refusals) -> Coupling:
    result = Coupling(width=len(group[0].idxs))
    for item in group:
        module, prune = item.dep.target.module, item.dep.handler
        entry = (list(item.idxs), list(item.root_idxs))
        reason = refusal(module)
        if not item.dep.target.outputs and graph.is_out_channel_pruning_fn(prune):
            reason = "it is the network's output"
        if isinstance(module, nn.Parameter) and reason is None:
            result.parameters.append((refusal.parameters[module], item.dep.target.pruning_dim, *entry))
        elif isinstance(module, CHANNEL_MODULES) and reason is None:
            name = refusal.names[module]
            one_slope = isinstance(module, nn.PReLU) and module.num_parameters == 1
            sides = [graph.is_out_channel_pruning_fn(prune), graph.is_in_channel_pruning_fn(prune)]
            if not one_slope:
                result.members.extend(
                    (name, side, *entry) for side, is_it in zip(("out", "in"), sides, strict=True) if is_it
                )
        if isinstance(module, COUNTED) and graph.is_out_channel_pruning_fn(prune):
            result.producers.add(refusal.names[module])
        result.reason = result.reason or reason
    return result


class _Refusals:
    """Why channels that touch a module (or parameter) cannot be removed, or None."""

    def __init__(self, model: nn.Module, input_shapes: dict[str, torch.Size]) -> None:
        self.names = {module: name for name, module in model.named_modules()}
        self.parameters = {parameter: name for name, parameter in model.named_parameters()}
        self._shapes = input_shapes
        # A parameter may sit in several modules (tied weights); named_modules lists a reused module only once.
        self._owners = Counter(p for m in model.modules() for p in m._parameters.values() if p is not None)

    def __call__(self, module: object) -> str | None:
        if isinstance(module, nn.Parameter):
            return self._of_parameter(module)
        if not isinstance(module, nn.Module) or module not in self.names:
            return None  # an operation
        kind, name = type(module).__name__, self.names[module]
        if isinstance(module, _TRANSPOSED):
            return f"a transposed convolution ({name}) reads or writes these channels"
        if isinstance(module, nn.GroupNorm):
            return f"{kind} {name} shares its statistics between channels of a group, so masking is not removing"
        parameters = list(module.parameters())
        if not isinstance(module, CHANNEL_MODULES):
            return f"{kind} {name} has parameters for these channels that cannot be cut" if parameters else None
        if isinstance(module, nn.LayerNorm) and self._layer_norm_dim(module) is None:
            return f"{kind} {name} mixes the statistics of more than the channels, so masking is not removing"
        if is_parametrized(module) or (isinstance(module, COUNTED) and "weight" not in module._parameters):
            return f"the weight of {name} is computed from other parameters (a parametrization)"
        if any(self._owners[p] > 1 for p in parameters):
            return f"{name} shares its weights with another module"
        return None

    def _layer_norm_dim(self, norm: nn.LayerNorm) -> int | None:
        shape = self._shapes.get(self.names[norm])
        return None if shape is None else layer_norm_dim(norm, shape)

    def _of_parameter(self, parameter: nn.Parameter) -> str | None:
        name = self.parameters.get(parameter, "")
        if max(parameter.shape, default=0) != parameter.numel():
            return f"the parameter {name} of shape {tuple(parameter.shape)} outside any known layer is coupled to them"
        return None


def _merge(couplings: list[Coupling], modules: dict[str, nn.Module]) -> list[Coupling]:
    """Join couplings that share a layer's channels, or whose channels a grouped convolution ties together.

    Units are the connected components of all (coupling, root channel) pairs; a pair that is tied to a channel outside
    every coupling (the network's input, say) drops out.
    """
    offsets = [sum(c.width for c in couplings[:i]) for i in range(len(couplings) + 1)]
    fixed = offsets[-1]  # one more element: what cannot be removed
    parent = list(range(fixed + 1))

    def find(element: int) -> int:
        while parent[element] != element:
            parent[element] = parent[parent[element]]
            element = parent[element]
        return element

    def union(a: int, b: int) -> None:
        a, b = find(a), find(b)
        parent[max(a, b)] = min(a, b)

    tables: dict[tuple[str, str], list[int]] = {}
    for coupling, offset in zip(couplings, offsets, strict=False):
        for name, side, channels, roots in coupling.members:
            counts = channel_counts(modules[name])
            table = tables.setdefault((name, side), [fixed] * counts[side == "in"])
            for channel, root in zip(channels, roots, strict=True):
                if table[channel] != fixed:
                    union(table[channel], offset + root)
                table[channel] = offset + root
    for name, module in modules.items():
        if is_depthwise(module) and {(name, "in"), (name, "out")} & tables.keys():
            _tie_groups(module, tables.get((name, "out")), tables.get((name, "in")), fixed, union)

    clusters = _clusters(couplings, offsets, find, fixed)
    return [_join(members, couplings, offsets, find, find(fixed)) for members in clusters]


def _tie_groups(
    conv: nn.Module, out: list[int] | None, into: list[int] | None, fixed: int, union: Callable[[int, int], None]
) -> None:
    groups = conv.groups
    for table, channels in ((out, conv.out_channels), (into, conv.in_channels)):
        for i in range(channels):  # type: ignore[arg-type]
            group = i // (channels // groups)  # type: ignore[operator]
            first = fixed if out is None else out[group * (conv.out_channels // groups)]  # type: ignore[operator]
            union(first, fixed if table is None else table[i])


def _clusters(couplings: list[Coupling], offsets: list[int], find: Callable[[int], int], fixed: int) -> list[list[int]]:
    """Numbers of the couplings that share a unit, as lists."""
    cluster_of: dict[int, list[int]] = {}
    owner: dict[int, int] = {}  # unit -> a coupling
    for i, coupling in enumerate(couplings):
        cluster_of[i] = [i]
        for element in {find(offsets[i] + root) for root in range(coupling.width)} - {find(fixed)}:
            other = cluster_of[owner.setdefault(element, i)]
            if other is not cluster_of[i]:
                other.extend(cluster_of[i])
                for j in cluster_of[i]:
                    cluster_of[j] = other
    return list({id(c): c for c in cluster_of.values()}.values())


def _join(
    members: list[int], couplings: list[Coupling], offsets: list[int], find: Callable[[int], int], fixed: int
) -> Coupling:
    elements = [find(offsets[i] + root) for i in sorted(members) for root in range(couplings[i].width)]
    units = {element: n for n, element in enumerate(dict.fromkeys(e for e in elements if e != fixed))}
    result = Coupling(width=len(units))
    for i in sorted(members):
        coupling = couplings[i]

        def renumbered(channels: list[int], roots: list[int], offset: int = offsets[i]) -> tuple[list[int], list[int]]:
            kept = [(c, find(offset + r)) for c, r in zip(channels, roots, strict=True) if find(offset + r) != fixed]
            return [c for c, _ in kept], [units[e] for _, e in kept]

        result.members.extend((name, side, *renumbered(c, r)) for name, side, c, r in coupling.members)
        result.parameters.extend((name, dim, *renumbered(c, r)) for name, dim, c, r in coupling.parameters)
        result.producers |= coupling.producers
        result.reason = result.reason or coupling.reason
    if not units:
        result.reason = result.reason or "a grouped convolution ties them to channels that cannot be removed"
    return result
