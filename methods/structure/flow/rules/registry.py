"""Where rules are registered, and what they share. A rule is called after its operation ran:

rule(recorder, name, func, args, kwargs, out)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from greenprune.methods.structure.flow.labels import Block
from greenprune.methods.structure.flow.recorder import Recorder
from torch import Tensor
from torch.utils._pytree import tree_leaves

RULES: dict[str, Callable[..., Any]] = {}


def rule(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def tensors_in(values: Any) -> list[Tensor]:
    return [t for t in tree_leaves(values) if isinstance(t, Tensor)]


def dims_of(dim: Any, rank: int) -> list[int]:
    """As non-negative numbers; None or an empty list means all."""
    if dim is None or (isinstance(dim, (list, tuple)) and not len(dim)):
        return list(range(rank))
    return [d % rank for d in (dim if isinstance(dim, (list, tuple)) else [dim])] if rank else []


def tie_parts(r: Recorder, block: Block, axis: int, parts: int) -> None:
    """Equal parts stay equal: position i of each goes together."""
    ids = np.moveaxis(block.ids, axis, 0)
    ids = ids.reshape(parts, -1, *ids.shape[1:])
    r.elements.union(ids, ids[:1])


def join_or_fix(r: Recorder, ids: Any, others: Sequence[Any], what: str) -> None:
    for other in others:
        if other is None:
            continue
        if ids is None:
            r.labeller.fix(other, what)
        else:
            r.elements.union(ids, other)
