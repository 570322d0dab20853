"""Where a program says how large its tensors are: calls of `view`, `reshape` and the like on labelled dimensions.

The recorder notes each with its place in the source, so that the number in it can follow when channels go (`shapes`).
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import torch
from greenprune.methods.structure.flow.labels import Labels
from torch import Tensor, nn

SIZED = ("view", "_unsafe_view", "reshape", "_reshape_alias", "expand", "split", "split_with_sizes", "unsafe_split",
         "unsafe_split_with_sizes", "slice", "narrow")  # fmt: skip
"""Operations that are given sizes."""

_TORCH = os.path.dirname(torch.__file__) + os.sep
_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep


@dataclass(frozen=True)
class Call:
    """A call in the source.

    Attributes:
        chain: the functions that lead to it, from the module's forward on.
        end: (line, byte column) of its closing bracket, in the file.
    """

    chain: tuple[CodeType, ...]
    end: tuple[int, int]


@dataclass(frozen=True)
class Note:
    """One operation of `SIZED`: `before` and `after` are shapes and labels of what went in and came out."""

    module: nn.Module
    operation: str
    call: Call | None
    dim: int
    before: tuple[tuple[int, ...], Labels]
    after: tuple[tuple[tuple[int, ...], Labels], ...]


def call_of(module: nn.Module) -> Call | None:
    """The line of the user's code that is at work, and how `module`'s forward came there; None: it is not in the source."""
    try:
        forward = inspect.unwrap(type(module).forward).__code__
    except AttributeError:
        return None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((_TORCH, _OWN)):
        if frame.f_code is forward:
            return None
        frame = frame.f_back
    if frame is None:
        return None
    positions = list(frame.f_code.co_positions())
    _, line, _, column = positions[frame.f_lasti // 2]
    chain: list[CodeType] = []
    while frame is not None:
        # What is called <genexpr> or the like stands in the source of the function around it.
        if not frame.f_code.co_filename.startswith(_TORCH) and not frame.f_code.co_name.startswith("<"):
            chain.append(frame.f_code)
        if frame.f_code is forward:
            break
        frame = frame.f_back
    if frame is None or line is None or column is None:
        return None
    return Call(tuple(reversed(chain)), (line, column))


def _speaker(module: nn.Module) -> nn.Module:
    """The module whose method gives the size: of the one at work, or of one that it asks without calling it."""
    forward = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith((_TORCH, _OWN)):
        if frame.f_code is forward:
            return module
        frame = frame.f_back
    if frame is None or not frame.f_code.co_argcount:
        return module
    owner = frame.f_locals.get(frame.f_code.co_varnames[0])
    return owner if isinstance(owner, nn.Module) else module


def note(module: nn.Module | None, name: str, args: Sequence[Any], out: Any, labels: Any) -> Note | None:
    """What is to be noted of an operation; `labels(tensor)` are those of a tensor. None: nothing labelled is in it."""
    if module is None or not args or not isinstance(args[0], Tensor):
        return None
    x, results = args[0], [out] if isinstance(out, Tensor) else [t for t in out if isinstance(t, Tensor)]
    before, after = labels(x), [labels(t) for t in results]
    if not any((before, *after)):
        return None
    dim = args[1] if name in ("slice", "narrow") and len(args) > 1 else args[2] if len(args) > 2 else 0
    module = _speaker(module)
    return Note(
        module, name, call_of(module), dim % x.ndim if isinstance(dim, int) and x.ndim else 0,
        (tuple(x.shape), before), tuple((tuple(t.shape), own) for t, own in zip(results, after, strict=True)),
    )  # fmt: skip
