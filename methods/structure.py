"""What can be removed from a network, found by tracing it.

A *unit* is the smallest thing that can be removed: one channel together with everything coupled to it (the norm behind
it, the inputs of the layers that read it, its partners in a residual stream), or one residual branch (a removable
layer). Units are numbered 0..U-1, channels first, then branches. Every layer knows for each of its channels which unit
it belongs to; masking, counting cost and cutting all read that one table.

*What is coupled* comes from Torch-Pruning's dependency graph (Fang et al. 2023, DepGraph); residual branches come from
torch.fx: an addition whose one operand leads around the other.
"""

from __future__ import annotations

import operator
import warnings
from dataclasses import dataclass, field
from itertools import chain

import torch
import torch.fx
import torch_pruning as tp
from torch import Tensor, nn

from methods.macs import CONVOLUTIONS, COUNTED, layer_macs

FIXED = -1
"""Unit number of a channel that cannot be removed (network input and output, for example)."""

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_ADDITIONS = (operator.add, operator.iadd, torch.add)


@dataclass(frozen=True)
class ChannelGroup:
    """Channels `start .. start + width - 1` of the unit numbering: one layer's output channels and all coupled to it.

    Attributes:
        name: the layer that the group is named after, the first convolution (or linear layer) that produces it.
        producers: all layers that produce these channels (several in a residual stream).
    """

    name: str
    start: int
    width: int
    producers: tuple[str, ...]

    @property
    def units(self) -> slice:
        return slice(self.start, self.start + self.width)


@dataclass(frozen=True)
class Branch:
    """A residual branch whose removal leaves the shortcut: `x + f(x)` becomes `x`.

    Attributes:
        name: the module that holds the addition, e.g. "layer1.0".
        unit: its number among the units.
        modules: the modules called in the branch, in order.
        end: the last norm, convolution or linear layer of the branch; where its output can be closed.
    """

    name: str
    unit: int
    modules: tuple[str, ...]
    end: str


@dataclass(frozen=True)
class Layer:
    """A module with channels. `out_units[i]` is the unit of output channel i (for a norm: of channel i), or FIXED."""

    name: str
    out_units: Tensor
    in_units: Tensor
    macs: int  # multiply-accumulates for one image, dense; 0 for a norm
    branches: tuple[int, ...] = ()  # units of the branches it lies in
    depthwise: bool = False  # one input channel per output channel


@dataclass(frozen=True)
class Structure:
    """The removable structure of one network.

    Attributes:
        groups, branches: what can be removed.
        layers: every module with channels, by name.
        fixed: (layer, reason) for every producer whose channels cannot be removed.
    """

    groups: tuple[ChannelGroup, ...]
    branches: tuple[Branch, ...]
    layers: dict[str, Layer]
    fixed: tuple[tuple[str, str], ...] = ()

    @property
    def units(self) -> int:
        return sum(g.width for g in self.groups) + len(self.branches)

    @property
    def channel_units(self) -> Tensor:
        """(U,) bool: the units that are channels; the others are branches."""
        return torch.arange(self.units) < self.units - len(self.branches)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the dense network for one image."""
        return sum(layer.macs for layer in self.layers.values())


@dataclass
class _Coupling:
    """Channels found coupled to those of one root layer: (module name, "out" or "in", channels of it, channels of the root)."""

    width: int
    members: list[tuple[str, str, list[int], list[int]]] = field(default_factory=list)
    producers: set[str] = field(default_factory=set)  # convolution and linear layers that write these channels
    reason: str | None = None  # why it cannot be removed


def trace(model: nn.Module, example_inputs: Tensor) -> Structure:
    """Find the removable channels and residual branches of `model`.

    Args:
        model: any module that maps `example_inputs` to logits; left as it was (mode and weights).
        example_inputs: (B, ...) float tensor on the model's device.

    Channels that cannot be removed, and why, are listed in the result's `fixed`.
    """
    training = [(m, m.training) for m in model.modules()]
    try:
        model.eval()
        macs = _macs_by_layer(model, example_inputs)
        couplings = _couplings(model, example_inputs)
        found = _residual_branches(model)
    finally:
        for module, mode in training:
            module.training = mode

    order = {name: i for i, name in enumerate(macs)}  # of execution
    groups: list[ChannelGroup] = []
    modules = dict(model.named_modules())
    tables = {name: _blank_tables(m) for name, m in modules.items() if isinstance(m, (*COUNTED, *BATCH_NORMS))}
    fixed: list[tuple[str, str]] = []
    start = 0
    for coupling in sorted(couplings, key=lambda c: min(order[p] for p in c.producers)):
        producers = tuple(sorted(coupling.producers, key=order.__getitem__))
        if coupling.reason is not None:
            fixed.extend((name, coupling.reason) for name in producers)
            continue
        groups.append(ChannelGroup(producers[0], start, coupling.width, producers))
        for name, side, channels, roots in coupling.members:
            table = tables[name][0 if side == "out" else 1]
            table[channels] = torch.tensor(roots) + start
        start += coupling.width
    branches = tuple(Branch(b.name, start + i, b.modules, b.end) for i, b in enumerate(found))
    layers = {
        name: Layer(
            name,
            out,
            into,
            macs.get(name, 0),
            branches=tuple(b.unit for b in branches if name in b.modules),
            depthwise=is_depthwise(modules[name]),
        )
        for name, (out, into) in tables.items()
    }
    return Structure(tuple(groups), branches, layers, tuple(fixed))


def is_depthwise(module: nn.Module) -> bool:
    """A convolution with exactly one input channel per output channel."""
    return isinstance(module, CONVOLUTIONS) and 1 < module.groups == module.in_channels == module.out_channels


def _blank_tables(module: nn.Module) -> tuple[Tensor, Tensor]:
    if isinstance(module, BATCH_NORMS):
        table = torch.full((module.num_features,), FIXED)
        return table, table
    if isinstance(module, nn.Linear):
        return torch.full((module.out_features,), FIXED), torch.full((module.in_features,), FIXED)
    return torch.full((module.out_channels,), FIXED), torch.full((module.in_channels,), FIXED)  # type: ignore[arg-type]


def _macs_by_layer(model: nn.Module, example_inputs: Tensor) -> dict[str, int]:
    counts: dict[str, int] = {}
    handles = [
        module.register_forward_hook(
            lambda m, _, out, name=name: counts.__setitem__(name, counts.get(name, 0) + layer_macs(m, out))
        )
        for name, module in model.named_modules()
        if isinstance(module, COUNTED)
    ]
    try:
        with torch.no_grad():
            model(example_inputs)
    finally:
        for handle in handles:
            handle.remove()
    return {name: n // len(example_inputs) for name, n in counts.items()}


def _couplings(model: nn.Module, example_inputs: Tensor) -> list[_Coupling]:
    names = {module: name for name, module in model.named_modules()}
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the graph warns of parameters it does not know; we refuse those below
        graph = tp.DependencyGraph().build_dependency(model, example_inputs=(example_inputs,), verbose=False)
        groups = list(graph.get_all_groups(root_module_types=[*CONVOLUTIONS, nn.Linear]))
    result = []
    for group in groups:
        coupling = _Coupling(width=len(group[0].idxs))
        for item in group:
            module, prune = item.dep.target.module, item.dep.handler
            reason = _refusal(module)
            if not item.dep.target.outputs and graph.is_out_channel_pruning_fn(prune):
                reason = "it is the network's output"
            if reason is not None:
                coupling.reason = coupling.reason or reason
            if not isinstance(module, (*COUNTED, *BATCH_NORMS)):
                continue  # activations, additions, reshapes: nothing of theirs is cut
            entry = (list(item.idxs), list(item.root_idxs))
            if graph.is_out_channel_pruning_fn(prune):
                coupling.members.append((names[module], "out", *entry))
                if isinstance(module, COUNTED):
                    coupling.producers.add(names[module])
            if graph.is_in_channel_pruning_fn(prune):
                coupling.members.append((names[module], "in", *entry))
        result.append(coupling)
    return result


def _refusal(module: object) -> str | None:
    """Why channels that touch `module` cannot be removed, or None."""
    if isinstance(module, CONVOLUTIONS) and module.groups > 1 and not is_depthwise(module):
        return f"a grouped convolution ({module.groups} groups) reads or writes these channels"
    if isinstance(module, (nn.LayerNorm, nn.GroupNorm)):
        return f"{type(module).__name__} mixes the channels' statistics, so masking is not removing"
    if isinstance(module, nn.Parameter):
        return "a parameter outside any known layer is coupled to these channels"
    return None


@dataclass(frozen=True)
class _FoundBranch:
    name: str
    modules: tuple[str, ...]
    end: str


def _residual_branches(model: nn.Module) -> list[_FoundBranch]:
    """Residual branches in execution order; none when torch.fx cannot trace the model."""
    try:
        graph = torch.fx.symbolic_trace(model).graph
    except Exception:  # tracing runs the user's own forward: anything may come out
        return []
    modules = dict(model.named_modules())
    ancestors = node_ancestors(graph)
    found = []
    for node in graph.nodes:
        nodes = branch_nodes(node, ancestors)
        if nodes is None:
            continue
        called = [n.target for n in nodes if n.op == "call_module"]
        ends = [t for t in called if isinstance(modules[t], (*COUNTED, *BATCH_NORMS))]
        stack = list(node.meta.get("nn_module_stack", {}).values())
        holder = stack[-1][0] if stack else ""
        if ends and len(set(ends)) == len(ends):
            found.append(_FoundBranch(holder, tuple(dict.fromkeys(called)), ends[-1]))
    return found


def node_ancestors(graph: torch.fx.Graph) -> dict[torch.fx.Node, set[torch.fx.Node]]:
    """For each node all nodes that lead to it, itself included."""
    ancestors: dict[torch.fx.Node, set[torch.fx.Node]] = {}
    for node in graph.nodes:
        ancestors[node] = {node}.union(*(ancestors[i] for i in node.all_input_nodes))
    return ancestors


def branch_nodes(node: torch.fx.Node, ancestors: dict[torch.fx.Node, set[torch.fx.Node]]) -> list[torch.fx.Node] | None:
    """The nodes of the residual branch that ends in the addition `node`, in order; None when `node` is none.

    Of the two operands the branch is the one with more module calls of its own; the other is the shortcut, which stays.
    Nothing inside the branch may be used outside it.
    """
    operands = node.all_input_nodes
    if node.op != "call_function" or node.target not in _ADDITIONS or len(operands) != 2:
        return None
    own = [ancestors[a] - ancestors[b] for a, b in (operands, operands[::-1])]
    calls = [sum(n.op == "call_module" for n in nodes) for nodes in own]
    if calls[0] == calls[1]:
        return None
    branch = own[0] if calls[0] > calls[1] else own[1]
    users = chain.from_iterable(n.users for n in branch)
    if any(user not in branch and user is not node for user in users):
        return None
    return sorted(branch)
