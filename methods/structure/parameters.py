"""A layer's parameters and what an optimizer knows of them, replaced and cut together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


def take(tensor: Tensor, index: dict[int, Tensor]) -> Tensor:
    """The chosen entries along each dimension, in the tensor's own memory format."""
    result = tensor.detach()
    for dim, kept in index.items():
        result = result.index_select(dim, kept.to(tensor.device))
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return result.contiguous(memory_format=torch.channels_last)
    return result.contiguous()


def cut_parameter(
    module: nn.Module, name: str, index: dict[int, Tensor], optimizer: torch.optim.Optimizer | None
) -> None:
    """Keep the chosen entries (by dimension) of a parameter, and of the optimizer's state for it; None stays None."""
    old = getattr(module, name, None)
    if old is not None:
        replace_parameter(
            module,
            name,
            take(old, index),
            optimizer,
            lambda state: take(state, index),
            lambda key, state: _take_part(key, state, old, index),
        )


def replace_parameter(
    module: nn.Module,
    name: str,
    values: Tensor,
    optimizer: torch.optim.Optimizer | None,
    change: Callable[[Tensor], Tensor] | None,
    change_other: Callable[[str, Tensor], Tensor | None] | None = None,
) -> None:
    """Give the parameter new values, of any shape; it takes the old one's place in the optimizer's groups.

    Args:
        change: what becomes of state that has the parameter's shape (momentum); None: the optimizer forgets its state.
        change_other: what becomes of state of another shape (Adafactor's rows and columns), by its name. Where it cannot
            tell (None) the optimizer forgets all that it knows of this parameter, and begins anew.
    """
    old = getattr(module, name)
    new = nn.Parameter(values.detach(), requires_grad=old.requires_grad)
    setattr(module, name, new)
    if optimizer is None:
        return
    for group in optimizer.param_groups:
        group["params"] = [new if p is old else p for p in group["params"]]
    state = optimizer.state.pop(old, None)
    if state is not None and change is not None:
        _store(optimizer, new, _changed(state, old, change, change_other))


def add_parameter(
    optimizer: torch.optim.Optimizer,
    new: nn.Parameter,
    after: nn.Parameter,
    origin: nn.Parameter,
    change: Callable[[Tensor], Tensor],
) -> None:
    """Let `optimizer` train `new` too, in the group of `after` and behind it: stored states are matched by order alone.

    Args:
        origin: whose state it takes over.
        change: what becomes of state that has the shape of `origin` (momentum).
    """
    for group in optimizer.param_groups:
        at = next((i for i, p in enumerate(group["params"]) if p is after), None)
        if at is not None:
            group["params"] = [*group["params"][: at + 1], new, *group["params"][at + 1 :]]
    if origin in optimizer.state:
        _store(optimizer, new, _changed(optimizer.state[origin], origin, change, None))


def _store(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, state: dict[str, Any] | None) -> None:
    if state is not None:
        optimizer.state[parameter] = state


def _changed(
    state: dict[str, Any],
    of: nn.Parameter,
    change: Callable[[Tensor], Tensor],
    change_other: Callable[[str, Tensor], Tensor | None] | None,
) -> dict[str, Any] | None:
    """The state of a parameter whose shape changed; None where nobody knows what becomes of a tensor in it."""
    result: dict[str, Any] = {}
    for key, value in state.items():
        if not isinstance(value, Tensor):
            result[key] = value
        elif value.shape == of.shape:
            result[key] = change(value)
        elif value.numel() == 1:  # a count of steps, a scale
            result[key] = value.clone()
        else:
            other = None if change_other is None else change_other(key, value)
            if other is None:
                return None
            result[key] = other
    return result


def _take_part(key: str, value: Tensor, of: Tensor, index: dict[int, Tensor]) -> Tensor | None:
    """The chosen entries of a state that lacks dimensions of the parameter `of`, or has a single entry there.

    Means over the last dimension (Adafactor's rows) or over the last but one (its columns); None: something else.
    """
    shape = of.shape
    if value.ndim == of.ndim and all(a in (b, 1) for a, b in zip(value.shape, shape, strict=True)):
        return take(value, {d: kept for d, kept in index.items() if value.shape[d] == shape[d]})
    if of.ndim < 2 or value.ndim != of.ndim - 1:
        return None
    rows, columns = value.shape == shape[:-1], value.shape == (*shape[:-2], shape[-1])
    if rows and columns:  # a square: only the name tells
        rows, columns = "row" in key, "col" in key
    if rows == columns:
        return None
    gone = of.ndim - 1 if rows else of.ndim - 2
    return take(value, {d - (d > gone): kept for d, kept in index.items() if d != gone})


def forget(optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Take `parameters` and their state out of `optimizer`; groups stay (maybe empty), and so does what else they hold."""
    gone = {id(p) for p in parameters}
    for group in optimizer.param_groups:
        for p in group["params"]:
            if id(p) in gone:
                optimizer.state.pop(p, None)
        group["params"] = [p for p in group["params"] if id(p) not in gone]
