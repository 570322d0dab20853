"""Positions picked by index."""

from __future__ import annotations

from typing import Any

import torch
from greenprune.methods.structure.flow.recorder import Recorder
from greenprune.methods.structure.flow.rules.registry import (
    rule,
)


@rule("index", "_unsafe_index", "index_select", "gather", "take_along_dim")
def indexed(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    x = args[0]
    if name in ("index_select", "gather", "take_along_dim"):
        dims = [args[1] % x.ndim]
        if name != "index_select":
            dims = list(range(x.ndim))
        places = {d: d for d in range(x.ndim)}
    else:
        indices = list(args[1]) + [None] * (x.ndim - len(args[1]))
        dims = [d for d, i in enumerate(indices) if i is not None]
        if any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices):
            dims, places = list(range(x.ndim)), {}
        else:
            rank = max((i.ndim for i in indices if i is not None), default=0)
            together = dims == list(range(dims[0], dims[0] + len(dims))) if dims else True
            front = dims[0] if dims and together else 0
            others = [d for d in range(x.ndim) if d not in dims]
            places = {d: n if n < front else n + rank for n, d in enumerate(others)}
    labels = r.of(x)
    for d in dims:
        labels = r.labeller.without(r.labeller.forbid(labels, d, f"{name.strip('_')} picks positions"), d)
    r.put(out, r.labeller.moved(labels, [places.get(d, 0) for d in range(x.ndim)]))
