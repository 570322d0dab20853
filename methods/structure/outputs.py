"""What a network returns: a tensor, or tensors in tuples, lists, dicts and dataclasses; and how two outputs compare."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Output = Callable[[Any], Tensor]
"""Picks out of what a network returns the tensor that a loss is computed from."""

CACHES = ("past_key_values",)
"""Entries of an output that hold what a next call may reuse, not a result."""


def tensors(output: Any) -> list[Tensor]:
    """All tensors in `output`, in order. Of objects of other kinds (a cache, a distribution) only if there is nothing else."""
    found = list(_plain(output))
    return found or list(_inside(output, set()))


def _plain(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            if key not in CACHES:
                yield from _plain(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from _plain(value)
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        for field in dataclasses.fields(output):
            if field.name not in CACHES:
                yield from _plain(getattr(output, field.name, None))


def _inside(output: Any, seen: set[int]) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif id(output) not in seen and not isinstance(output, (nn.Module, type)):
        seen.add(id(output))
        values = output.values() if isinstance(output, Mapping) else output if isinstance(output, (list, tuple)) else ()
        for value in (*values, *getattr(output, "__dict__", {}).values()):
            yield from _inside(value, seen)


def logits_of(output: Any) -> Tensor:
    """The tensor that a loss is computed from when nobody says which: the logits, or else the first one.

    A tensor is itself; of a dict or dataclass it is what is called `logits` or `out`; of anything else the first
    floating-point tensor.

    Raises:
        ValueError: there is none.
    """
    if isinstance(output, Tensor):
        return output
    for name in ("logits", "out"):
        named = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(named, Tensor):
            return named
    for tensor in tensors(output):
        if tensor.is_floating_point():
            return tensor
    raise ValueError(f"the network returns a {type(output).__name__} without a floating-point tensor in it")


def with_first(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """`output` with its first floating-point tensor changed, in a container of the same kind."""
    done = False

    def visit(value: Any) -> Any:
        nonlocal done
        if done:
            return value
        if isinstance(value, Tensor):
            if value.is_floating_point():
                done = True
                return change(value)
            return value
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*map(visit, value))
        if type(value) in (list, tuple):
            return type(value)(map(visit, value))
        if type(value) is dict:
            return {key: visit(entry) for key, entry in value.items()}
        if isinstance(value, Mapping):  # a subclass, ModelOutput for example: it may refuse any other way of being made
            for key in value:
                value[key] = visit(value[key])  # type: ignore[index]
            return value
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [f.name for f in dataclasses.fields(value) if f.init]
            return dataclasses.replace(value, **{name: visit(getattr(value, name)) for name in names})
        return value

    return visit(output)


@dataclass(frozen=True)
class Difference:
    """How far two outputs of a network lie apart. NaN where either holds one: that is no agreement.

    Attributes:
        absolute: the largest difference of two entries.
        relative: the largest difference in a tensor, divided by that tensor's largest entry; over all tensors.
        reason: why they cannot be compared entry by entry, or None.
    """

    absolute: float
    relative: float
    reason: str | None = None


@torch.no_grad()
def difference(expected: Any, got: Any) -> Difference:
    """Compare two outputs, tensor by tensor. Integers count only where there are no floating-point numbers."""
    a, b = tensors(expected), tensors(got)
    if len(a) != len(b):
        return Difference(math.nan, math.nan, f"the output holds {len(b)} tensors instead of {len(a)}")
    absolute = relative = 0.0
    floating = any(t.is_floating_point() or t.is_complex() for t in a)
    for x, y in zip(a, b, strict=True):
        if x.shape != y.shape:
            return Difference(
                math.nan, math.nan, f"the output changes its shape from {tuple(x.shape)} to {tuple(y.shape)}"
            )
        if not x.numel() or (floating and not (x.is_floating_point() or x.is_complex())):
            continue
        x, y = (t if t.is_complex() else t.double() if _has_double(t) else t.float() for t in (x, y))
        off = torch.where(x == y, torch.zeros_like(x), x - y).abs().max().item()  # equal infinities agree
        size = x[torch.isfinite(x)].abs()
        scale = max(size.max().item() if size.numel() else 0.0, 1e-6)
        absolute, relative = _larger(absolute, off), _larger(relative, off / scale)
    return Difference(absolute, relative)


def _larger(a: float, b: float) -> float:
    """NaN if either is."""
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)


def _has_double(tensor: Tensor) -> bool:
    return tensor.device.type != "mps"
