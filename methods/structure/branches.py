"""Residual branches, found with torch.fx: an addition whose one operand leads around the other.

The network is traced as a whole; where that fails (data-dependent control flow), the modules in it are traced one by one.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.fx
from greenprune.methods.structure.macs import COUNTED
from greenprune.methods.structure.units import BATCH_NORMS
from torch import nn
from torch.fx import Graph, Node

_ADDITIONS = (operator.add, operator.iadd, torch.add)
_ADDING_METHODS = ("add", "add_", "__add__", "__iadd__", "__radd__")


@dataclass(frozen=True)
class FoundBranch:
    """See `units.Branch`."""

    name: str
    modules: tuple[str, ...]
    end: str


def find_branches(model: nn.Module, calls: dict[str, int]) -> tuple[list[FoundBranch], list[tuple[str, str]]]:
    """Residual branches in execution order, and (name, reason) of what looks like one and cannot be removed.

    Args:
        model: in eval mode.
        calls: how often each module runs in one forward pass.
    """
    found: list[FoundBranch] = []
    refused: list[tuple[str, str]] = []
    for prefix, graph in _graphs(model, "", refused):
        modules = dict(model.get_submodule(prefix).named_modules())
        ancestors = node_ancestors(graph)
        for node in graph.nodes:
            operands = _operands(node)
            if operands is None:
                continue
            name = prefix + _holder(node, prefix)
            result = _branch(node, operands, ancestors, modules)
            if isinstance(result, str):
                refused.append((name, result))
            elif result is not None:
                called, end = result
                branch = FoundBranch(name, tuple(_join(prefix, t) for t in called), _join(prefix, end))
                reason = _why_not(model, branch, calls)
                if reason is None:
                    found.append(branch)
                else:
                    refused.append((name, reason))
    return found, refused


def _graphs(module: nn.Module, prefix: str, refused: list[tuple[str, str]]) -> Iterator[tuple[str, Graph]]:
    """The traces of `module`, or of the modules in it as far as they can be traced, with their names."""
    try:
        yield prefix, torch.fx.symbolic_trace(module).graph
        return
    except Exception as error:  # tracing runs the user's own forward: anything may come out
        why = str(error).strip().splitlines()
        refused.append((prefix, f"torch.fx cannot trace its forward ({why[0] if why else type(error).__name__})"))
    for name, child in _traceable_children(module):
        yield from _graphs(child, _join(prefix, name), refused)


def _traceable_children(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if isinstance(child, (nn.ModuleList, nn.ModuleDict)):  # without a forward of their own
            yield from _traceable_children(child, f"{prefix}{name}.")
        elif isinstance(child, nn.Sequential) or not type(child).__module__.startswith("torch.nn"):
            yield prefix + name, child


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix and name else prefix or name


def _holder(node: Node, prefix: str) -> str:
    """Name of the module whose forward does the addition, to be appended to `prefix`."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    inner = stack[-1][0] if stack else ""
    return f".{inner}" if prefix and inner else inner


def _operands(node: Node) -> list[Node] | None:
    """The two tensors that `node` adds, or None."""
    adds = (node.op == "call_function" and node.target in _ADDITIONS) or (
        node.op == "call_method" and node.target in _ADDING_METHODS
    )
    return node.all_input_nodes if adds and len(node.all_input_nodes) == 2 else None


def node_ancestors(graph: Graph) -> dict[Node, set[Node]]:
    """For each node all nodes that lead to it, itself included."""
    ancestors: dict[Node, set[Node]] = {}
    for node in graph.nodes:
        ancestors[node] = {node}.union(*(ancestors[i] for i in node.all_input_nodes))
    return ancestors


def branch_nodes(node: Node, ancestors: dict[Node, set[Node]]) -> list[Node] | str | None:
    """The nodes of the residual branch that ends in the addition `node`, in order.

    Of the two operands the branch is the one with more module calls of its own; the other is the shortcut, which stays.

    Returns:
        the nodes; or why they cannot be taken out; or None when `node` joins nothing that could be a branch.
    """
    operands = _operands(node)
    if operands is None:
        return None
    own = [ancestors[a] - ancestors[b] for a, b in (operands, operands[::-1])]
    calls = [sum(n.op == "call_module" for n in nodes) for nodes in own]
    if max(calls) == 0:
        return None  # a bias, or functions without layers: nothing to save
    branch, shortcut = (own[0], operands[1]) if calls[0] > calls[1] else (own[1], operands[0])
    if not any(n.op == "placeholder" for n in ancestors[shortcut]):
        return None  # something is added that does not depend on the input: no way around the layers
    if calls[0] == calls[1]:
        return "both sides of the addition have as many layers: neither is a shortcut"
    if any(n.op == "placeholder" for n in branch):
        return "its two sides come from different inputs"
    if any(user not in branch and user is not node for n in branch for user in n.users):
        return "a result inside the branch is used outside of it as well"
    return sorted(branch)


def _branch(
    node: Node, operands: list[Node], ancestors: dict[Node, set[Node]], modules: dict[str, nn.Module]
) -> tuple[tuple[str, ...], str] | str | None:
    """(modules called, end) of the branch that ends in `node`, or why it cannot be removed, or None."""
    nodes = branch_nodes(node, ancestors)
    if nodes is None or isinstance(nodes, str):
        return nodes
    called = [str(n.target) for n in nodes if n.op == "call_module"]
    layers = [
        n for n in nodes if n.op == "call_module" and isinstance(modules[str(n.target)], (*COUNTED, *BATCH_NORMS))
    ]
    if not any(isinstance(modules[str(n.target)], COUNTED) for n in layers):
        return "it has no convolution or linear layer of its own"
    inside = set(nodes)
    output = next(o for o in operands if o in inside)
    ends = [n for n in layers if _all_pass_through(n, output, inside)]
    if not ends:
        return "not everything in it passes through one layer that could close it"
    return tuple(dict.fromkeys(called)), str(ends[-1].target)


def _all_pass_through(gate: Node, output: Node, inside: set[Node]) -> bool:
    """Whether no path into the branch reaches `output` around `gate`."""
    todo, seen = [output], {gate}
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        for source in node.all_input_nodes:
            if source not in inside:
                return False
            todo.append(source)
    return True


def _why_not(model: nn.Module, branch: FoundBranch, calls: dict[str, int]) -> str | None:
    """Why a branch that has the right form cannot be removed all the same, or None."""
    for name in branch.modules:
        if calls.get(name, 0) > 1 and any(True for _ in model.get_submodule(name).parameters()):
            return f"{name} in it is called {calls[name]} times in one forward pass"
    holder = model.get_submodule(branch.name)
    end = branch.end.removeprefix(f"{branch.name}." if branch.name else "")
    modes = [(m, m.training) for m in holder.modules()]
    code = []
    try:
        for mode in (False, True):
            holder.train(mode)
            code.append(str(without_branch(holder, end)))
    except Exception as error:
        return f"the module that holds it cannot be traced alone ({type(error).__name__}: {error})"
    finally:
        for module, training in modes:
            module.training = training
    if code[0] != code[1]:
        return "what is left around it differs between training and evaluation, which its replacement could not follow"
    return None


def without_branch(holder: nn.Module, end: str) -> Graph:
    """The trace of `holder` without the residual branch that is closed at its submodule `end`.

    Raises:
        ValueError: there is no such branch.
    """
    graph = torch.fx.symbolic_trace(holder).graph
    ancestors = node_ancestors(graph)
    modules = dict(holder.named_modules())
    for node in graph.nodes:
        operands = _operands(node)
        branch = None if operands is None else _branch(node, operands, ancestors, modules)
        if operands is None or not isinstance(branch, tuple) or branch[1] != end:
            continue
        inside = branch_nodes(node, ancestors)
        assert isinstance(inside, list)
        node.replace_all_uses_with(next(n for n in operands if n not in inside))
        graph.eliminate_dead_code()
        return graph
    raise ValueError(f"no residual branch that ends in {end} was found")
