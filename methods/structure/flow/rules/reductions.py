"""Sums, means, extremes and what else runs along a dimension."""

from __future__ import annotations

from typing import Any

from greenprune.methods.structure.flow.recorder import Recorder
from greenprune.methods.structure.flow.rules.elementwise import elementwise
from greenprune.methods.structure.flow.rules.registry import (
    dims_of,
    rule,
    tensors_in,
)
from greenprune.methods.structure.operations import arguments

_HARMLESS = ("sum", "nansum", "linalg_vector_norm", "count_nonzero")
"""What is zero adds nothing to them."""


@rule(
    "sum", "nansum", "linalg_vector_norm", "mean", "var", "std", "var_mean", "std_mean", "amax", "amin", "max",
    "min", "median", "argmax", "argmin", "prod", "any", "all", "norm", "logsumexp", "topk", "sort", "argsort",
    "kthvalue", "mode", "count_nonzero", "aminmax",
)  # fmt: skip
def reduced(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    tensors = tensors_in((args, kwargs))
    if len(tensors) == 2 and name in ("max", "min"):
        elementwise(r, name, func, args, kwargs, out)
        return
    a = arguments(func, args, kwargs)
    x = tensors[0]
    keeps = name in ("topk", "sort", "argsort")
    dims = dims_of(a.get("dim"), x.ndim)
    labels = r.labeller.tidy(r.of(x))
    for d in dims:
        if name in _HARMLESS:
            labels = tuple(
                r.labeller.row(b, b.dims.index(d)) if d in b.dims and len(b.dims) > 1 else b
                for b in r.labeller.tidy(labels)
                if b.dims != (d,)
            )
        else:
            labels = r.labeller.forbid(labels, d, f"{name} is taken over them, which masked channels enter,")
        labels = r.labeller.without(labels, d)
    if not (keeps or a.get("keepdim")):
        left = [d for d in range(x.ndim) if d not in dims]
        to = [left.index(d) if d in left else 0 for d in range(x.ndim)]
        labels = r.labeller.moved(labels, to)
    for result in tensors_in(out):
        if result.ndim:
            r.put(result, labels)
