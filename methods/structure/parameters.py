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
        replace_parameter(module, name, take(old, index), optimizer, lambda state: take(state, index))


def replace_parameter(
    module: nn.Module,
    name: str,
    values: Tensor,
    optimizer: torch.optim.Optimizer | None,
    change: Callable[[Tensor], Tensor] | None,
) -> None:
    """Give the parameter new values, of any shape; it takes the old one's place in the optimizer's groups.

    Args:
        change: what becomes of state that has the parameter's shape (momentum); None: the optimizer forgets its state.
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
        optimizer.state[new] = _changed(state, old, change)


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
        optimizer.state[new] = _changed(optimizer.state[origin], origin, change)


def _changed(state: dict[str, Any], of: nn.Parameter, change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    return {
        key: value if not isinstance(value, Tensor) else change(value) if value.shape == of.shape else value.clone()
        for key, value in state.items()
    }


def forget(optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Take `parameters` and their state out of `optimizer`; groups stay (maybe empty), and so does what else they hold."""
    gone = {id(p) for p in parameters}
    for group in optimizer.param_groups:
        for p in group["params"]:
            if id(p) in gone:
                optimizer.state.pop(p, None)
        group["params"] = [p for p in group["params"] if id(p) not in gone]
