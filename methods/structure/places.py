"""Where a network holds a module: under its names, and in lists, tuples and dicts beside them, which its forward may use."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import MethodType
from typing import Any

from torch import nn

_EVERY = frozenset(vars(nn.Module()))
"""What each module has: its mode, parameters, buffers, hooks and children."""


def put(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` wherever `old` is: under all its names, and in what other modules hold besides.

    What `old` holds may refer to it; that is left alone.
    """
    inside = {id(m) for m in old.modules()}
    for parent in list(model.modules()):
        if parent is new or id(parent) in inside:
            continue
        for leaf, child in parent._modules.items():
            if child is old:
                parent._modules[leaf] = new
        for name, value in _besides(parent):
            replaced = _with(value, old, new)
            if replaced is not value:
                vars(parent)[name] = replaced


def _besides(module: nn.Module) -> list[tuple[str, Any]]:
    """The attributes of a module that could hold others which are not its children."""
    kinds = (list, tuple, dict, nn.Module)
    return [(name, value) for name, value in vars(module).items() if name not in _EVERY and isinstance(value, kinds)]


def _with(value: Any, old: nn.Module, new: nn.Module) -> Any:
    """`value` with `new` in place of `old`: lists and dicts are changed in place, a tuple is made anew."""
    if value is old:
        return new
    if isinstance(value, tuple):
        items = [_with(v, old, new) for v in value]
        if all(a is b for a, b in zip(items, value, strict=True)):
            return value
        return value._make(items) if hasattr(value, "_make") else type(value)(items)
    entries = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for key, entry in list(entries):
        replaced = _with(entry, old, new)
        if replaced is not entry:
            value[key] = replaced
    return value


def refers_apart(model: nn.Module) -> bool:
    """Whether modules are held elsewhere than as children: in lists and the like, or by hooks that are methods of theirs."""
    for module in model.modules():
        for name, value in vars(module).items():
            own = isinstance(value, MethodType) and value.__self__ is module
            if name != "_modules" and not own and any(isinstance(v, nn.Module) for v in _within(value)):
                return True
    return False


def _within(value: Any) -> Iterator[Any]:
    """What a value holds, or is bound to; itself where it is none of that."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple, set)):
        for entry in value:
            yield from _within(entry)
    elif isinstance(value, MethodType):
        yield value.__self__
    elif isinstance(value, partial):
        yield from _within([value.func, *value.args, value.keywords])
    else:
        yield value
