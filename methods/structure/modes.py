"""Modes of a network between training and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase


@contextmanager
def as_they_were(model: nn.Module) -> Iterator[None]:
    """Whatever happens to the modes of the modules inside, afterwards each is in the one it was in."""
    modes = [(m, m.training) for m in model.modules()]
    try:
        yield
    finally:
        _set(modes)


def _set(modes: list[tuple[nn.Module, bool]]) -> None:
    """Bring modules, outer ones first, into these modes: by their `train`, which may do more than to note the mode."""
    for module, mode in modes:
        if module.training != mode:
            module.train(mode)
    for module, mode in modes:  # one that its `train` keeps out of this mode was put into it by hand
        module.training = mode


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside, the modes from before outside."""
    with as_they_were(model):
        model.eval()
        yield


def set_fast_path(enabled: bool) -> bool:
    """Whether attention modules may run as one fused operation; returns how it was."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(enabled)
    return before


@contextmanager
def operation_by_operation() -> Iterator[None]:
    """Attention modules do not run as one fused operation, so that what they consist of can be seen."""
    before = set_fast_path(False)
    try:
        yield
    finally:
        set_fast_path(before)


@contextmanager
def as_in_training(model: nn.Module) -> Iterator[None]:
    """Let `model` take the way that it takes in training, and nothing happen on it: no statistics, no dropout.

    Modules made of others are in training mode; those that are not, and norms, stay in eval mode.
    """
    with as_they_were(model):
        made_of_others = [(m, any(True for _ in m.children())) for m in model.modules()]
        _set([(m, made and not isinstance(m, _NormBase)) for m, made in made_of_others])
        yield
