"""Views, slices, concatenations: the same entries in other places."""

from __future__ import annotations

from typing import Any

import numpy as np
from greenprune.methods.structure.flow.labels import Block, Labels
from greenprune.methods.structure.flow.recorder import Recorder
from greenprune.methods.structure.flow.rules.registry import (
    dims_of,
    rule,
    tensors_in,
    tie_parts,
)
from greenprune.methods.structure.operations import arguments

MOST_PARTS = 8
"""Slices that divide a dimension into up to so many equal parts are taken for parts; a shorter one for a constant cut."""


@rule(
    "view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten", "squeeze", "unsqueeze",
    "_reshape_copy",
)  # fmt: skip
def viewed(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    if args[0].numel() == out.numel():  # not a view as another type
        r.put(out, r.labeller.reshape(r.of(args[0]), tuple(args[0].shape), tuple(out.shape)))


@rule("permute", "transpose", "t", "numpy_T", "mT", "swapaxes", "movedim", "adjoint")
def permuted(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    x, rank = args[0], args[0].ndim
    if name.startswith("permute"):
        order = [d % rank for d in args[1]]
    else:
        order = list(range(rank))
        a, b = (args[1] % rank, args[2] % rank) if len(args) > 2 else ((0, 1) if rank > 1 else (0, 0))
        order[a], order[b] = order[b], order[a]
    to = [0] * rank
    for new, old in enumerate(order):
        to[old] = new
    r.put(out, r.labeller.moved(r.of(x), to))


@rule("as_strided")
def strided(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    if args[0] is out or (args[0].shape == out.shape and args[0].stride() == out.stride()):
        r.put(out, r.of(args[0]))
    else:
        r.refuse(name, args, kwargs)


@rule("expand")
def expanded(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    x = args[0]
    shift = out.ndim - x.ndim
    labels = r.of(x)
    for d in range(x.ndim):
        if x.shape[d] != out.shape[d + shift]:
            labels = r.labeller.without(r.labeller.forbid(labels, d, "a single channel is repeated"), d)
    r.put(out, r.labeller.moved(labels, [d + shift for d in range(x.ndim)]))


@rule("repeat")
def repeated(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    x, times = args[0], list(args[1])
    shift = len(times) - x.ndim
    result = []
    for block in r.of(x):
        reps = [times[d + shift] for d in block.dims]
        result.append(Block(tuple(d + shift for d in block.dims), np.tile(block.ids, reps)))
    r.put(out, r.labeller.tidy(result))


@rule("select", "unbind")
def selected(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    a = arguments(func, args, kwargs)
    x = a["self"]
    dim = a["dim"] % x.ndim
    labels = r.labeller.forbid(r.of(x), dim, f"{name} picks single positions")
    labels = r.labeller.without(labels, dim)
    labels = r.labeller.moved(labels, [d - (d > dim) for d in range(x.ndim)])
    for result in tensors_in(out):
        r.put(result, labels)


@rule("slice", "narrow")
def sliced(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    a = arguments(func, args, kwargs)
    x, dim = a["self"], (a["dim"] or 0) % a["self"].ndim
    n = x.shape[dim]
    if out.shape[dim] == n:
        r.put(out, r.of(x))
        return
    start = a["start"] or 0
    start = min(n, start + n if start < 0 else start)
    step, m = a.get("step") or 1, out.shape[dim]
    end = start + (m - 1) * step + 1 if m else start
    parts = n // m if m and n % m == 0 and start % m == 0 and step == 1 else 0
    result = []
    for block in r.labeller.tidy(r.of(x)):
        if dim not in block.dims:
            result.append(block)
            continue
        axis = block.dims.index(dim)
        if 2 <= parts <= MOST_PARTS:
            tie_parts(r, block, axis, parts)
        elif len(block.dims) > 1:
            block = r.labeller.row(block, axis)
            result.append(block)
            continue
        elif step != 1:
            r.labeller.fix(block.ids, "a slice with a step")
        else:  # a constant cut stays right while nothing before its ends goes
            last = 0 if end >= n else end
            r.labeller.fix(block.ids[: max(start, last)], "a slice of a fixed size")
        index = [slice(None)] * block.ids.ndim
        index[axis] = slice(start, end, step)
        result.append(Block(block.dims, block.ids[tuple(index)]))
    r.put(out, r.labeller.tidy(result))


@rule("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_chunk", "unsafe_split_with_sizes", "tensor_split")
def split(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    a = arguments(func, args, kwargs)
    x = a["self"]
    dim = (a.get("dim") or 0) % x.ndim
    sizes = [t.shape[dim] for t in out]
    labels = []
    for block in r.labeller.tidy(r.of(x)):
        if dim in block.dims and len(sizes) > 1:
            axis = block.dims.index(dim)
            if len(set(sizes)) == 1:
                tie_parts(r, block, axis, len(sizes))
            elif len(block.dims) > 1:
                block = r.labeller.row(block, axis)
            elif "with_sizes" not in name:  # sizes that are given follow the channels of their part
                r.labeller.fix(block.ids, f"{name} into parts of fixed, unequal sizes")
        labels.append(block)
    start = 0
    for size, part in zip(sizes, out, strict=True):
        mine = []
        for block in labels:
            if dim in block.dims:
                index = [slice(None)] * block.ids.ndim
                index[block.dims.index(dim)] = slice(start, start + size)
                block = Block(block.dims, block.ids[tuple(index)])
            mine.append(block)
        r.put(part, r.labeller.tidy(mine))
        start += size


@rule("cat", "concat", "concatenate", "stack")
def concatenated(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    a = arguments(func, args, kwargs)
    tensors = [t for t in a["tensors"] if not (t.ndim == 1 and t.numel() == 0 and out.ndim > 1)]
    dim = (a.get("dim") or 0) % out.ndim
    if name == "stack":
        shapes = [(*t.shape[:dim], 1, *t.shape[dim:]) for t in tensors]
        labels = [r.labeller.reshape(r.of(t), tuple(t.shape), s) for t, s in zip(tensors, shapes, strict=True)]
    else:
        shapes, labels = [tuple(t.shape) for t in tensors], [r.of(t) for t in tensors]
    along = []  # elements along dim
    rest: list[tuple[tuple[int, ...], Labels]] = []
    for tensor, shape, own in zip(tensors, shapes, labels, strict=True):
        ids = r.labeller.alone(own, dim)
        along.append(np.zeros(shape[dim], dtype=np.int64) if ids is None else ids)
        one = (*shape[:dim], 1, *shape[dim + 1 :])
        if not r.is_fresh(tensor):  # a constructor makes zeros as wide as they must be
            rest.append((one, r.labeller.without(r.labeller.tidy(own), dim)))
    others = r.labeller.combine(rest, "a concatenation")[1] if rest else ()
    r.put(out, r.labeller.tidy((*others, Block((dim,), np.concatenate(along)))))


@rule("constant_pad_nd", "pad")
def padded(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    x, pad = args[0], list(args[1])
    result = []
    for block in r.of(x):
        for axis, d in enumerate(block.dims):
            i = x.ndim - 1 - d
            if 2 * i + 1 >= len(pad) or not (pad[2 * i] or pad[2 * i + 1]):
                continue
            if min(pad[2 * i], pad[2 * i + 1]) < 0:
                r.labeller.fix(block.ids, "a crop")
                break
            widths = [(0, 0)] * block.ids.ndim
            widths[axis] = (pad[2 * i], pad[2 * i + 1])
            block = Block(block.dims, np.pad(block.ids, widths))
        result.append(block)
    r.put(
        out,
        r.labeller.tidy(b for b in result if all(out.shape[d] == n for d, n in zip(b.dims, b.ids.shape, strict=True))),
    )


@rule("flip")
def flipped(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    dims = dims_of(args[1], args[0].ndim)
    axes = [(b, tuple(i for i, d in enumerate(b.dims) if d in dims)) for b in r.of(args[0])]
    r.put(out, tuple(Block(b.dims, np.flip(b.ids, turned)) for b, turned in axes))


@rule(
    "roll", "cumsum", "cumprod", "_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax", "glu_jvp",
    "logcumsumexp", "unfold",
)  # fmt: skip
def mixing_along(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    a = arguments(func, args, kwargs)
    x = a["self"]
    labels = r.of(x)
    for d in dims_of(a["dims"] if name == "roll" else a.get("dim", a.get("dimension")), x.ndim):
        labels = r.labeller.without(r.labeller.forbid(labels, d, f"{name.strip('_')} mixes them"), d)
    r.put(out, labels)


@rule("glu")
def halved(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    x = args[0]
    dim = arguments(func, args, kwargs)["dim"] % x.ndim
    labels = []
    for block in r.of(x):
        if dim in block.dims:
            axis = block.dims.index(dim)
            tie_parts(r, block, axis, 2)
            block = Block(block.dims, block.ids.take(range(block.ids.shape[axis] // 2), axis))
        labels.append(block)
    r.put(out, r.labeller.tidy(labels))
