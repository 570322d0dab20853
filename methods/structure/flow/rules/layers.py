"""Convolutions, products, attention, embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from greenprune.methods.structure.flow.labels import Block, Labels
from greenprune.methods.structure.flow.recorder import Recorder
from greenprune.methods.structure.flow.rules.registry import (
    join_or_fix,
    rule,
    tensors_in,
)
from greenprune.methods.structure.operations import arguments
from torch import Tensor


@rule(
    "convolution", "_convolution", "conv1d", "conv2d", "conv3d", "mkldnn_convolution", "cudnn_convolution",
    "convolution_overrideable",
)  # fmt: skip
def convolved(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    a = arguments(func, args, kwargs)
    x, w, bias = a["input"], a["weight"], a.get("bias")
    groups, transposed = a.get("groups") or 1, bool(a.get("transposed"))
    labels = r.of(x)
    for d in range(2, x.ndim):
        labels = r.labeller.forbid(labels, d, "a convolution runs over them")
    for d in range(2, w.ndim):
        r.labeller.forbid(r.of(w), d, "a convolution runs over them")
    into, outof = (0, 1) if transposed else (1, 0)
    x_ids, w_in, w_out = r.labeller.alone(labels, 1), r.labeller.alone(r.of(w), into), r.labeller.alone(r.of(w), outof)
    fixed = "a convolution reads channels that cannot be removed"
    if groups == 1:
        if w_in is None and x_ids is not None:
            r.labeller.fix(x_ids, "a convolution with weights of a fixed size reads them")
        join_or_fix(r, x_ids, [w_in], fixed)
        out_ids = w_out
    else:
        out_channels = out.shape[1]
        per = w_in if not transposed else w_out
        if per is not None:
            r.labeller.fix(per, "channels within a group of a convolution stay")
        rows = w_out if not transposed else w_in  # one entry for each output (input) channel
        if x_ids is None or rows is None:
            for ids in (x_ids, rows):
                if ids is not None:
                    r.labeller.fix(ids, "a grouped convolution ties them to channels that cannot be removed")
            out_ids = None
        else:
            a_side, b_side = x_ids.reshape(groups, -1), rows.reshape(groups, -1)
            r.elements.union(a_side, a_side[:, :1])
            r.elements.union(b_side, a_side[:, :1])
            out_ids = np.repeat(r.elements.find(a_side[:, 0]), out_channels // groups)
    if isinstance(bias, Tensor):
        own = r.labeller.alone(r.of(bias), 0)
        join_or_fix(r, out_ids, [own], "its channels cannot be removed")
    kept = [b for b in r.labeller.tidy(labels) if b.dims == (0,)]
    r.put(tensors_in(out)[0], r.labeller.tidy(kept if out_ids is None else [*kept, Block((1,), out_ids)]))


def product(
    r: Recorder, a: tuple[tuple[int, ...], Labels], b: tuple[tuple[int, ...], Labels], what: str
) -> tuple[tuple[int, ...], Labels]:
    """`a @ b` of (..., n, k) and (..., k, m), with equal leading dimensions."""
    rank = len(a[0])
    left, right = r.labeller.contract(a, b, rank - 1, rank - 2, what)
    return r.labeller.combine([((*a[0][:-1], 1), left), ((*b[0][:-2], 1, b[0][-1]), right)], what)


@rule("mm", "bmm", "addmm", "baddbmm", "matmul", "dot", "mv", "addmv", "addbmm", "_addmm_activation", "_int_mm")
def multiplied(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    tensors = tensors_in(args)
    a, b = tensors[-2:]
    shapes = [tuple(a.shape), tuple(b.shape)]
    labels = [r.of(a), r.of(b)]
    if len(shapes[0]) == 1:
        labels[0], shapes[0] = r.labeller.moved(labels[0], [1]), (1, *shapes[0])
    if len(shapes[1]) == 1:
        shapes[1] = (*shapes[1], 1)
    shape, result = product(r, (shapes[0], labels[0]), (shapes[1], labels[1]), "a product")
    result = r.labeller.reshape(result, shape, tuple(out.shape))
    if len(tensors) == 3:
        _, result = r.labeller.combine(
            [(tuple(out.shape), result), (tuple(tensors[0].shape), r.of(tensors[0]))], "a sum"
        )
    r.put(out, result)


@rule("linear", "mkldnn_linear", "_mkl_linear")
def linear(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    x, w = args[0], args[1]
    bias = args[2] if len(args) > 2 else kwargs.get("bias")
    left, right = r.labeller.contract(
        (tuple(x.shape), r.of(x)), (tuple(w.shape), r.of(w)), x.ndim - 1, 1, "a linear layer"
    )
    rank = x.ndim
    parts = [((*x.shape[:-1], 1), left), ((1,) * (rank - 1) + (w.shape[0],), r.labeller.moved(right, [rank - 1, 0]))]
    shape, result = r.labeller.combine(parts, "a linear layer")
    if isinstance(bias, Tensor):
        _, result = r.labeller.combine([(shape, result), (tuple(bias.shape), r.of(bias))], "a sum")
    r.put(out, result)


@rule(
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_attention_math", "scaled_dot_product_attention",
    "_scaled_dot_product_fused_attention_overrideable", "_scaled_dot_product_attention_math_for_mps",
)  # fmt: skip
def attended(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    a = arguments(func, args, kwargs)
    q, k, v = a["query"], a["key"], a["value"]
    sides = []
    for t in (q, k, v):
        labels, shape = r.of(t), tuple(t.shape)
        if t.ndim == 4 and t.shape[1] != q.shape[1]:  # grouped queries: heads are repeated inside
            times = q.shape[1] // t.shape[1]
            repeats = [
                Block(b.dims, np.repeat(b.ids, times, b.dims.index(1)) if 1 in b.dims else b.ids) for b in labels
            ]
            labels, shape = tuple(repeats), (shape[0], q.shape[1], *shape[2:])
        sides.append((shape, labels))
    rank = q.ndim
    swap = [*range(rank - 2), rank - 1, rank - 2]
    k_shape = sides[1][0]
    turned = ((*k_shape[:-2], k_shape[-1], k_shape[-2]), r.labeller.moved(sides[1][1], swap))
    shape, scores = product(r, sides[0], turned, "attention")
    mask = a.get("attn_mask") if isinstance(a.get("attn_mask"), Tensor) else a.get("attn_bias")
    if isinstance(mask, Tensor):
        shape, scores = r.labeller.combine([(shape, scores), (tuple(mask.shape), r.of(mask))], "attention")
    scores = r.labeller.without(r.labeller.forbid(scores, rank - 1, "attention mixes them"), rank - 1)
    _, result = product(r, (shape, scores), sides[2], "attention")
    r.put(tensors_in(out)[0], result)


@rule("embedding")
def embedded(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    weight = args[0]
    labels = r.labeller.forbid(r.of(weight), 0, "an embedding looks them up")
    ids = r.labeller.alone(labels, 1)
    r.put(out, () if ids is None else (Block((out.ndim - 1,), ids),))
