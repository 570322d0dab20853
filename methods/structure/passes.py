"""One forward pass as a graph of operations, each with the module in which it ran.

What counts is what was executed, so control flow, keyword arguments, functions and decorators of every kind are no matter.
A module's call is a stretch of operations, which is how the pieces of a network are told apart (`branches`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from greenprune.methods.structure import outputs
from greenprune.methods.structure.modes import operation_by_operation
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary


@dataclass
class Operation:
    """One executed operation, or (with the name "input") a tensor that the network was given.

    Attributes:
        name: of the operator, without the underscore of one that works in place.
        operands: operations that made its tensors, one entry per argument; -1 for a constant or a parameter.
        call: number of the innermost module call at work; -1: none.
        reads: names of the parameters among its arguments.
        in_place: it wrote its result over its first argument.
    """

    name: str
    operands: tuple[int, ...]
    call: int
    reads: tuple[str, ...] = ()
    in_place: bool = False


@dataclass
class Call:
    """One call of a module: operations `start .. stop - 1`.

    Attributes:
        parent: number of the call around it; -1: none.
        args, kwargs: what it was called with; a tensor is replaced by its `Seen`.
        output: what it gave, likewise.
    """

    name: str
    module: nn.Module
    parent: int
    start: int
    stop: int = 0
    args: tuple = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    output: Any = None


@dataclass(frozen=True)
class Seen:
    """A tensor in the arguments or the result of a call."""

    operation: int
    shape: tuple[int, ...]
    floating: bool


@dataclass
class Pass:
    """What ran, in order.

    Attributes:
        outputs: operations whose results the network gave back.
    """

    operations: list[Operation] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    outputs: tuple[int, ...] = ()

    def ancestors(self) -> list[int]:
        """For each operation all that lead to it, itself included, as bits of an integer."""
        found: list[int] = []
        for i, operation in enumerate(self.operations):
            bits = 1 << i
            for operand in operation.operands:
                if operand >= 0:
                    bits |= found[operand]
            found.append(bits)
        return found

    def users(self) -> list[list[int]]:
        """For each operation those that take its result."""
        found: list[list[int]] = [[] for _ in self.operations]
        for i, operation in enumerate(self.operations):
            for operand in set(operation.operands):
                if operand >= 0:
                    found[operand].append(i)
        return found


_MAKERS = ("new_zeros", "new_ones", "new_empty", "new_full", "new_empty_strided", "zeros_like", "ones_like", "empty_like",
           "full_like", "rand_like", "randn_like")  # fmt: skip
"""They look at what a tensor is, not at what is in it."""


class _Root:
    """All views of one tensor."""

    def __init__(self) -> None:
        self.written = -1  # the last operation that wrote to any of them


class _Follower(TorchDispatchMode):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.seen = Pass()
        self._made: Any = WeakTensorKeyDictionary()
        self._roots: Any = WeakTensorKeyDictionary()
        self._parameters = {id(p): name for name, p in model.named_parameters()}
        self._stack: list[int] = []

    def note_input(self, tensor: Tensor) -> None:
        self._put(tensor, self._add("input", ()), None)

    def made(self, tensor: Tensor) -> int:
        """The operation that a tensor comes from; -1: none in this pass."""
        own = self._made.get(tensor, -1)
        root = self._roots.get(tensor)
        return own if root is None else max(own, root.written)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        name = func._schema.name.removeprefix("aten::")
        operands = () if name in _MAKERS else tuple(self.made(t) for t in tensors)
        out = func(*args, **kwargs)
        writes = func._schema.is_mutable
        reads = tuple(self._parameters[id(t)] for t in tensors if id(t) in self._parameters)
        number = self._add(name.removesuffix("_") if writes else name, operands, reads, in_place=writes)
        made = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        if writes and not made:
            made = tensors[:1]
        for tensor in made:
            self._put(tensor, number, self._root_of(tensor, tensors), writes=writes)
        return out

    def _add(self, name: str, operands: tuple[int, ...], reads: tuple[str, ...] = (), *, in_place: bool = False) -> int:
        self.seen.operations.append(Operation(name, operands, self._stack[-1] if self._stack else -1, reads, in_place))
        return len(self.seen.operations) - 1

    def _root_of(self, tensor: Tensor, arguments: Sequence[Tensor]) -> _Root | None:
        """The root that `tensor` shares with one of `arguments`, or None: it has memory of its own."""
        for other in arguments:
            if other is tensor or (other in self._roots and _same_memory(tensor, other)):
                return self._roots.get(other)
        return None

    def _put(self, tensor: Tensor, number: int, root: _Root | None, *, writes: bool = False) -> None:
        root = root or _Root()
        self._made[tensor], self._roots[tensor] = number, root
        if writes:
            root.written = number

    # Calls of modules

    def enter(self, name: str, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        parent = self._stack[-1] if self._stack else -1
        call = Call(
            name,
            module,
            parent,
            len(self.seen.operations),
            args=_map(args, self._told),
            kwargs=_map(kwargs, self._told),
        )
        self.seen.calls.append(call)
        self._stack.append(len(self.seen.calls) - 1)

    def leave(self, module: nn.Module, output: object) -> None:
        if self._stack and self.seen.calls[self._stack[-1]].module is module:
            call = self.seen.calls[self._stack.pop()]
            call.stop, call.output = len(self.seen.operations), _map(output, self._told)

    def _told(self, value: object) -> object:
        if isinstance(value, Tensor):
            return Seen(self.made(value), tuple(value.shape), value.is_floating_point())
        return value if value is None or isinstance(value, (bool, int, float, str)) else Other(type(value).__name__)


@dataclass(frozen=True)
class Other:
    """Something that is no tensor and no plain value."""

    kind: str


def _map(value: Any, function: Callable[[object], object]) -> Any:
    """`value` with `function` applied to what is in its tuples, lists and dicts."""
    if type(value) in (tuple, list):
        return type(value)(_map(v, function) for v in value)
    if type(value) is dict:
        return {k: _map(v, function) for k, v in value.items()}
    return function(value)


def _same_memory(a: Tensor, b: Tensor) -> bool:
    try:
        return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr() != 0
    except RuntimeError:  # no storage
        return False


@torch.no_grad()
def follow(model: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> Pass:
    """Run `model(*args, **kwargs)` once, in the mode that it is in, and return what ran."""
    follower = _Follower(model)
    for tensor in tree_leaves((args, dict(kwargs))):
        if isinstance(tensor, Tensor):
            follower.note_input(tensor)
    with _hooked(model, follower), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with follower:
            output = model(*args, **kwargs)
    follower.seen.outputs = tuple(follower.made(t) for t in outputs.tensors(output))
    return follower.seen


@contextmanager
def _hooked(model: nn.Module, follower: _Follower) -> Iterator[None]:
    handles = []
    for name, module in model.named_modules():
        handles.append(
            module.register_forward_pre_hook(
                lambda m, args, kwargs, name=name: follower.enter(name, m, args, kwargs), with_kwargs=True
            )
        )
        handles.append(module.register_forward_hook(lambda m, args, out: follower.leave(m, out), always_call=True))
    try:
        with operation_by_operation():
            yield
    finally:
        for handle in handles:
            handle.remove()
