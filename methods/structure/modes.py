"""Modes of a network between training and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _NormBase


@contextmanager
def as_in_training(model: nn.Module) -> Iterator[None]:
    """Let `model` take the way that it takes in training, and nothing happen on it: no statistics, no dropout.

    Modules made of others are in training mode; those that are not, and norms, stay in eval mode.
    """
    modes = [(m, m.training) for m in model.modules()]
    try:
        for module, _ in modes:
            module.training = any(True for _ in module.children()) and not isinstance(module, _NormBase)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
