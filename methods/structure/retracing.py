"""Taking a residual branch out of the code: the module that adds it is replaced by its torch.fx trace without the branch.

The modules that it calls are leaves of the trace: what they do inside is no matter.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Mapping
from typing import Any

import torch
import torch.fx
from greenprune.methods.structure.modes import as_they_were
from greenprune.methods.structure.passes import Seen
from torch import nn
from torch.fx import Graph, Node
from torch.fx._symbolic_trace import _assert_is_none
from torch.fx.node import base_types, map_arg

_ADDITIONS = (operator.add, operator.iadd, torch.add)
_ADDING_METHODS = ("add", "add_", "__add__", "__iadd__", "__radd__")


HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)
"""Of a module, what others registered to be called around its forward."""


class _Tracer(torch.fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


class Untraceable(Exception):  # noqa: N818 - it is an answer, not an error
    """A branch cannot be taken out of the code; the message says why."""


def lost(holder: nn.Module, *, outermost: bool) -> str | None:
    """Why nothing else can take the place of `holder`: others use more of it than its forward; None: they do not.

    Args:
        outermost: it is the network itself, whose methods and attributes are there for whoever has it.
    """
    kind = type(holder).__name__
    if any(getattr(getattr(holder, n), "__func__", None) is not getattr(nn.Module, n) for n in ("train", "eval")):
        return f"{kind} changes modes in its own way, which a replacement would not"
    own = next(iter(_public(holder)), None) if outermost else None
    return None if own is None else f"{kind}, the network itself, has {own}, which a replacement would not"


def _public(model: nn.Module) -> list[str]:
    """Methods and attributes of `model` and its class that are for others, and that torch's own modules do not have."""
    own = [kind for kind in type(model).__mro__ if not f"{kind.__module__}.".startswith("torch.")]
    names = [name for kind in own for name in vars(kind)] + [name for name in vars(model) if name not in _BARE]
    return [name for name in names if not name.startswith("_") and name != "forward"]


_BARE = frozenset(vars(torch.fx.GraphModule({}, Graph())))
"""The attributes of a module that has none of its own."""


def find_constants(holder: nn.Module, end: str, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `holder` that its code without the branch asks for, and the values that they have to keep.

    They can be such that were None, True or False, or not given. What is only handed on need not keep its value.

    Args:
        end: the submodule of `holder` at which the branch is closed.
        args, kwargs: what `holder` was called with.

    Raises:
        Untraceable: without the branch there would be no code for `holder` that does the rest.
    """
    try:
        with as_they_were(holder):
            fixed = given = _constants(holder, args, kwargs)
            code = _code(holder, end, fixed, given)
            for name in given if code[0] == code[1] else ():
                fewer = {n: value for n, value in fixed.items() if n != name}
                fixed = fewer if _can_do_with(holder, end, fewer, given, code) else fixed
    except Exception as error:  # tracing runs the user's own forward: anything may come out
        why = str(error).strip().splitlines()
        raise Untraceable(
            f"the module that holds it cannot be traced alone ({type(error).__name__}: {why[0] if why else ''})"
        ) from error
    if code[0] != code[1]:
        raise Untraceable(
            "what is left around it differs between training and evaluation, which its replacement could not follow"
        )
    for name, value in fixed.items():
        if value is not None and not isinstance(value, base_types):
            raise Untraceable(
                f"what is left around it asks for {name}, a {type(value).__name__}, which cannot be checked"
            )
    return fixed


def _constants(holder: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    signature = inspect.signature(type(holder).forward)
    given = signature.bind(holder, *args, **kwargs).arguments
    found: dict[str, Any] = {}
    for name, parameter in list(signature.parameters.items())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            if given.get(name):
                raise ValueError(f"it was called with further arguments, {parameter}")
        elif name not in given:
            found[name] = parameter.default
        elif given[name] is None or isinstance(given[name], bool):
            found[name] = given[name]
        elif not _is_tensor(given[name]):
            raise ValueError(f"its argument {name} is no tensor")
    return found


def _can_do_with(
    holder: nn.Module, end: str, fixed: Mapping[str, Any], given: Mapping[str, Any], code: list[list[str]]
) -> bool:
    """Whether the code is the same when only the arguments in `fixed` keep the values that all those in `given` had."""
    try:
        return _code(holder, end, fixed, given) == code
    except Exception:  # it asks for another one, or closes the branch with it
        return False


def _code(holder: nn.Module, end: str, fixed: Mapping[str, Any], given: Mapping[str, Any]) -> list[list[str]]:
    """What `holder` does without the branch in evaluation and in training, where the arguments have the values in `given`."""
    code = []
    for mode in (False, True):
        holder.train(mode)
        code.append(_operations(without_branch(holder, end, fixed), given))
    return code


def _operations(graph: Graph, given: Mapping[str, Any]) -> list[str]:
    """The operations of `graph`, but for the checks of its arguments, with these values in place of arguments."""

    def shown(node: Node) -> Any:
        return given[str(node.target)] if node.op == "placeholder" and node.target in given else node

    checks = {node for node in graph.nodes if node.target is torch._assert}
    checks |= {node for node in graph.nodes if node.users and checks.issuperset(node.users)}
    left = [node for node in graph.nodes if node.op != "placeholder" and node not in checks]
    return [f"{n} {n.target} {map_arg(n.args, shown)} {map_arg(n.kwargs, shown)}" for n in left]


def _is_tensor(value: object) -> bool:
    return isinstance(value, Seen)


def _trace(holder: nn.Module, fixed: Mapping[str, Any]) -> Graph:
    graph = _Tracer().trace(holder, concrete_args=dict(fixed) or None)
    graph.owning_module = holder  # whose submodules tell whether a call may be left out
    for node in graph.nodes:
        # This check would go with the dead code; and where stored code with it is loaded torch.fx traces nothing any more.
        if node.target is _assert_is_none:
            with graph.inserting_before(node):
                is_none = graph.call_function(
                    operator.eq, (node.args[0], None)
                )  # `is` is lost where code is traced again
                graph.call_function(torch._assert, (is_none, node.args[1]))
            graph.erase_node(node)
    return graph


def _operands(node: Node) -> list[Node] | None:
    """The two tensors that `node` adds, or None."""
    adds = (node.op == "call_function" and node.target in _ADDITIONS) or (
        node.op == "call_method" and node.target in _ADDING_METHODS
    )
    return node.all_input_nodes if adds and len(node.all_input_nodes) == 2 else None


def _ancestors(graph: Graph) -> dict[Node, set[Node]]:
    """For each node all nodes that lead to it, itself included."""
    ancestors: dict[Node, set[Node]] = {}
    for node in graph.nodes:
        ancestors[node] = {node}.union(*(ancestors[i] for i in node.all_input_nodes))
    return ancestors


def without_branch(holder: nn.Module, end: str, fixed: Mapping[str, Any]) -> Graph:
    """The trace of `holder` without the residual branch that is closed at its submodule `end`.

    Args:
        fixed: arguments that are constants, see `find_constants`.

    Raises:
        ValueError: there is no such branch, or it begins before `holder` or is used beyond the addition.
    """
    graph = _trace(holder, fixed)
    _restore_names(graph, fixed)
    ancestors = _ancestors(graph)
    for node in graph.nodes:
        operands = _operands(node)
        for branch, other in () if operands is None else (operands, operands[::-1]):
            own = ancestors[branch] - ancestors[other]
            if not any(n.op == "call_module" and f"{end}.".startswith(f"{n.target}.") for n in own):
                continue
            if any(n.op == "placeholder" and not n.args for n in own):  # one with a default may be for the branch alone
                raise ValueError("it begins before the module that adds it")
            if any(user not in own and user is not node for n in own for user in n.users):
                raise ValueError("a result inside the branch is used outside of it as well")
            node.replace_all_uses_with(other)
            graph.eliminate_dead_code()
            return graph
    raise ValueError(f"no residual branch that ends in {end} was found")


def _restore_names(graph: Graph, fixed: Mapping[str, Any]) -> None:
    """torch.fx numbers the arguments that it takes for constants; callers give them by their names."""
    for node in graph.nodes:
        name = str(node.target).rpartition("_")[0]
        if node.op == "placeholder" and node.target not in fixed and name in fixed:
            node.target = name


def retraced(holder: nn.Module, end: str, fixed: Mapping[str, Any]) -> torch.fx.GraphModule:
    """What replaces `holder` when the branch that is closed at `end` is gone; its other submodules are the same objects.

    Raises:
        ValueError: see `without_branch`.
    """
    replacement = torch.fx.GraphModule(holder, without_branch(holder, end, fixed), class_name=type(holder).__name__)
    replacement.train(holder.training)
    for hooks in HOOKS:
        setattr(replacement, hooks, getattr(holder, hooks))  # the same ones, so that a handle still removes its own
    _in_order_of(replacement, holder)
    for module in replacement.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]  # it would now overwrite the block's own input
    return replacement


def _in_order_of(model: nn.Module, original: nn.Module) -> None:
    """Register the submodules of `model` in the order of `original`: torch.fx uses the order of execution, and an
    optimizer's stored state finds its parameters by their order alone."""
    if model is original:
        return
    order = {name: i for i, name in enumerate(original._modules)}
    model._modules = dict(sorted(model._modules.items(), key=lambda item: order.get(item[0], len(order))))
    for name, child in model._modules.items():
        if child is not None and original._modules.get(name) is not None:
            _in_order_of(child, original._modules[name])  # type: ignore[arg-type]
