"""Copies of a network that is in use."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def copy_of(model: M) -> M:
    """A deep copy, also of a network whose modules hold results of a calculation (the old `weight_norm` does).

    Python's own copy refuses tensors that are the result of a calculation with gradients.
    """
    memo: dict[int, object] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(model, memo)
