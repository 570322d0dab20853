"""What of an object is plain data, so that it can be stored and read again without running anything.

Plain are None, truth values, numbers, texts, tensors, and lists, tuples and dicts of these; generators of random numbers are
stored by their state. What does not change while a network is trained need not be stored: it is made again.
"""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn

FIXED = (
    nn.Module, nn.Parameter, torch.device, torch.dtype, type, types.FunctionType, types.BuiltinFunctionType,
    types.ModuleType, enum.Enum, Path,
)  # fmt: skip


class StateError(RuntimeError):
    """A state that cannot be stored, or does not fit; the message is one sentence."""


def is_plain(value: object) -> bool:
    if value is None or isinstance(value, bool | int | float | str):
        return not isinstance(value, enum.Enum)
    if isinstance(value, Tensor):
        return not isinstance(value, nn.Parameter) and not value.requires_grad
    if isinstance(value, list | tuple):
        return all(is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str | int | float | bool) and is_plain(item) for key, item in value.items())
    return False


def is_fixed(value: object) -> bool:
    """Made when the network was prepared, and not changed since: modules and their parameters, which are stored with the
    network, frozen models and dataclasses, classes, functions, and containers of these."""
    if isinstance(value, list | tuple):
        return all(is_fixed(item) for item in value)
    if isinstance(value, dict):
        return all(is_fixed(item) for item in value.values())
    if isinstance(value, BaseModel):
        return bool(value.model_config.get("frozen"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return bool(value.__dataclass_params__.frozen)  # type: ignore[attr-defined]
    return isinstance(value, FIXED)


def collect(owner: object, apart: Iterable[str] = ()) -> dict[str, Any]:
    """The attributes of `owner` that change, as plain data.

    Args:
        apart: names of attributes to leave out.

    Raises:
        StateError: an attribute is neither plain data nor known not to change.
    """
    found: dict[str, Any] = {}
    for name, value in vars(owner).items():
        if name in apart:
            continue
        if isinstance(value, torch.Generator):
            found[name] = value.get_state()
        elif is_plain(value):
            found[name] = value
        elif not is_fixed(value):
            raise StateError(
                f"its attribute {name} ({type(value).__name__}) is no plain data; give {type(owner).__name__} a "
                "state_dict and a load_state_dict, or name it in made_by_prepare when it does not change"
            )
    return found


@torch.no_grad()
def restore(owner: object, state: dict[str, Any]) -> None:
    """Give `owner` the attributes that `collect` found. Tensors of the same shape are filled in place: others may look
    at them."""
    for name, value in state.items():
        mine = getattr(owner, name, None)
        if isinstance(mine, torch.Generator):
            mine.set_state(value.cpu())
        elif isinstance(mine, Tensor) and isinstance(value, Tensor) and mine.shape == value.shape:
            mine.copy_(value)
        else:
            setattr(owner, name, value)
