"""What each operation does to labels. One small function for each kind, registered under ATen's names.

A rule is called as `rule(recorder, name, func, args, kwargs, out)` after the operation ran.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from greenprune.methods.structure.flow.labels import Block, Labels
from greenprune.methods.structure.flow.recorder import Recorder
from greenprune.methods.structure.units import BATCH_NORMS, INSTANCE_NORMS
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

RULES: dict[str, Callable[..., Any]] = {}

MOST_PARTS = 8
"""Slices that divide a dimension into up to so many equal parts are taken for parts; a shorter one for a constant cut."""


def _rule(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def _arguments(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """All arguments by the names of the operation's schema, defaults filled in."""
    found = {}
    for i, argument in enumerate(func._schema.arguments):
        if i < len(args):
            found[argument.name] = args[i]
        elif argument.name in kwargs:
            found[argument.name] = kwargs[argument.name]
        else:
            found[argument.name] = argument.default_value if argument.has_default_value() else None
    return found


def _tensors(values: Any) -> list[Tensor]:
    return [t for t in tree_leaves(values) if isinstance(t, Tensor)]


def _dims(dim: Any, rank: int) -> list[int]:
    """As non-negative numbers; None or an empty list means all."""
    if dim is None or (isinstance(dim, (list, tuple)) and not len(dim)):
        return list(range(rank))
    return [d % rank for d in (dim if isinstance(dim, (list, tuple)) else [dim])] if rank else []


# Elementwise


@_rule(
    "pointwise", "where", "masked_fill", "lerp", "addcmul", "addcdiv", "bernoulli", "native_dropout", "dropout",
    "hardswish", "hardsigmoid", "hardtanh", "gelu", "silu", "mish", "elu", "celu", "selu", "leaky_relu", "softplus",
    "log_sigmoid_forward", "_prelu_kernel", "relu6", "rrelu_with_noise", "threshold", "logit", "softshrink",
    "hardshrink", "nan_to_num", "clamp", "clip", "rsub", "polar", "complex",
)  # fmt: skip
def elementwise(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    tensors = _tensors((args, kwargs))
    written = func._schema.arguments and func._schema.arguments[0].alias_info is not None
    results = [out] if isinstance(out, Tensor) else _tensors(out)
    if not results:
        return
    _, labels = r.labeller.combine([(tuple(t.shape), r.of(t)) for t in tensors], f"{name.rstrip('_')}")
    for result in results:
        if result.ndim:
            r.put(result, labels)
    if written and tensors:
        r.put(tensors[0], labels)


@_rule(
    "clone", "detach", "alias", "contiguous", "_to_copy", "lift_fresh", "lift_fresh_copy", "zeros_like",
    "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "view_as_real", "to", "_conj", "positive",
    "resolve_conj", "resolve_neg", "_fw_primal", "fill", "zero", "normal", "uniform", "set_data", "requires_grad",
)  # fmt: skip
def same(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    r.put(out, r.of(args[0]))


@_rule(
    "empty", "zeros", "ones", "full", "arange", "linspace", "new_zeros", "new_empty", "new_ones", "new_full",
    "scalar_tensor", "eye", "rand", "randn", "randint", "randperm", "tril_indices", "triu_indices",
    "_local_scalar_dense", "item", "empty_strided", "new_empty_strided", "is_same_size", "equal", "is_nonzero",
    "_assert_async", "sym_size", "size", "stride", "nonzero", "numel", "dim", "shape_as_tensor", "_shape_as_tensor",
    "is_floating_point", "result_type", "sym_numel", "sym_stride", "_has_compatible_shallow_copy_type",
)  # fmt: skip
def unlabelled(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    r.fresh(out)


@_rule("copy", "_foreach_copy")
def copied(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    target, source = args[0], args[1]
    if r.is_fresh(target) and target.shape == source.shape:
        r.put(target, r.of(source))
        return
    _, labels = r.labeller.combine([(tuple(t.shape), r.of(t)) for t in (target, source)], "a copy into a tensor")
    r.put(target, labels)
    r.put(out, labels)


# Shapes


@_rule(
    "view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten", "squeeze", "unsqueeze",
    "_reshape_copy",
)  # fmt: skip
def viewed(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    if args[0].numel() == out.numel():  # not a view as another type
        r.put(out, r.labeller.reshape(r.of(args[0]), tuple(args[0].shape), tuple(out.shape)))


@_rule("permute", "transpose", "t", "numpy_T", "mT", "swapaxes", "movedim", "adjoint")
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


@_rule("as_strided")
def strided(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    if args[0] is out or (args[0].shape == out.shape and args[0].stride() == out.stride()):
        r.put(out, r.of(args[0]))
    else:
        r._refuse(name, args, kwargs)


@_rule("expand")
def expanded(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    x = args[0]
    shift = out.ndim - x.ndim
    labels = r.of(x)
    for d in range(x.ndim):
        if x.shape[d] != out.shape[d + shift]:
            labels = r.labeller.without(r.labeller.forbid(labels, d, "a single channel is repeated"), d)
    r.put(out, r.labeller.moved(labels, [d + shift for d in range(x.ndim)]))


@_rule("repeat")
def repeated(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    x, times = args[0], list(args[1])
    shift = len(times) - x.ndim
    result = []
    for block in r.of(x):
        reps = [times[d + shift] for d in block.dims]
        result.append(Block(tuple(d + shift for d in block.dims), np.tile(block.ids, reps)))
    r.put(out, r.labeller.tidy(result))


@_rule("select", "unbind")
def selected(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    a = _arguments(func, args, kwargs)
    x = a["self"]
    dim = a["dim"] % x.ndim
    labels = r.labeller.forbid(r.of(x), dim, f"{name} picks single positions")
    labels = r.labeller.without(labels, dim)
    labels = r.labeller.moved(labels, [d - (d > dim) for d in range(x.ndim)])
    for result in _tensors(out):
        r.put(result, labels)


@_rule("slice", "narrow")
def sliced(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    a = _arguments(func, args, kwargs)
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
            _tie_parts(r, block, axis, parts)
        elif len(block.dims) > 1:
            block = r.labeller._row(block, axis)
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


def _tie_parts(r: Recorder, block: Block, axis: int, parts: int) -> None:
    """Equal parts stay equal: position i of each goes together."""
    ids = np.moveaxis(block.ids, axis, 0)
    ids = ids.reshape(parts, -1, *ids.shape[1:])
    r.elements.union(ids, ids[:1])


@_rule("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_chunk", "unsafe_split_with_sizes", "tensor_split")
def split(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    a = _arguments(func, args, kwargs)
    x = a["self"]
    dim = (a.get("dim") or 0) % x.ndim
    sizes = [t.shape[dim] for t in out]
    labels = []
    for block in r.labeller.tidy(r.of(x)):
        if dim in block.dims and len(sizes) > 1:
            axis = block.dims.index(dim)
            if len(set(sizes)) == 1:
                _tie_parts(r, block, axis, len(sizes))
            elif len(block.dims) > 1:
                block = r.labeller._row(block, axis)
            else:
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


@_rule("cat", "concat", "concatenate", "stack")
def concatenated(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    a = _arguments(func, args, kwargs)
    tensors = [t for t in a["tensors"] if not (t.ndim == 1 and t.numel() == 0 and out.ndim > 1)]
    dim = (a.get("dim") or 0) % out.ndim
    if name == "stack":
        shapes = [(*t.shape[:dim], 1, *t.shape[dim:]) for t in tensors]
        labels = [r.labeller.reshape(r.of(t), tuple(t.shape), s) for t, s in zip(tensors, shapes, strict=True)]
    else:
        shapes, labels = [tuple(t.shape) for t in tensors], [r.of(t) for t in tensors]
    along = []  # elements along dim
    rest: list[tuple[tuple[int, ...], Labels]] = []
    for shape, own in zip(shapes, labels, strict=True):
        ids = r.labeller.alone(own, dim)
        along.append(np.zeros(shape[dim], dtype=np.int64) if ids is None else ids)
        one = (*shape[:dim], 1, *shape[dim + 1 :])
        rest.append((one, r.labeller.without(r.labeller.tidy(own), dim)))
    _, others = r.labeller.combine(rest, "a concatenation")
    r.put(out, r.labeller.tidy((*others, Block((dim,), np.concatenate(along)))))


@_rule("constant_pad_nd", "pad")
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


@_rule("flip")
def flipped(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    dims = _dims(args[1], args[0].ndim)
    r.put(
        out, tuple(Block(b.dims, np.flip(b.ids, [i for i, d in enumerate(b.dims) if d in dims])) for b in r.of(args[0]))
    )


@_rule(
    "roll", "cumsum", "cumprod", "_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax", "glu_jvp",
    "logcumsumexp", "unfold",
)  # fmt: skip
def mixing_along(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    a = _arguments(func, args, kwargs)
    x = a["self"]
    labels = r.of(x)
    for d in _dims(a["dims"] if name == "roll" else a.get("dim", a.get("dimension")), x.ndim):
        labels = r.labeller.without(r.labeller.forbid(labels, d, f"{name.strip('_')} mixes them"), d)
    r.put(out, labels)


@_rule("glu")
def halved(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    x = args[0]
    dim = _arguments(func, args, kwargs)["dim"] % x.ndim
    labels = []
    for block in r.of(x):
        if dim in block.dims:
            axis = block.dims.index(dim)
            _tie_parts(r, block, axis, 2)
            block = Block(block.dims, block.ids.take(range(block.ids.shape[axis] // 2), axis))
        labels.append(block)
    r.put(out, r.labeller.tidy(labels))


# Reductions

_HARMLESS = ("sum", "nansum", "linalg_vector_norm", "count_nonzero")
"""What is zero adds nothing to them."""


@_rule(
    "sum", "nansum", "linalg_vector_norm", "mean", "var", "std", "var_mean", "std_mean", "amax", "amin", "max",
    "min", "median", "argmax", "argmin", "prod", "any", "all", "norm", "logsumexp", "topk", "sort", "argsort",
    "kthvalue", "mode", "count_nonzero", "aminmax",
)  # fmt: skip
def reduced(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    tensors = _tensors((args, kwargs))
    if len(tensors) == 2 and name in ("max", "min"):
        elementwise(r, name, func, args, kwargs, out)
        return
    a = _arguments(func, args, kwargs)
    x = tensors[0]
    keeps = name in ("topk", "sort", "argsort")
    dims = _dims(a.get("dim"), x.ndim)
    labels = r.labeller.tidy(r.of(x))
    for d in dims:
        if name in _HARMLESS:
            labels = tuple(
                r.labeller._row(b, b.dims.index(d)) if d in b.dims and len(b.dims) > 1 else b
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
    for result in _tensors(out):
        if result.ndim:
            r.put(result, labels)


# Norms


def _join_or_fix(r: Recorder, ids: Any, others: Sequence[Any], what: str) -> None:
    for other in others:
        if other is None:
            continue
        if ids is None:
            r.labeller.fix(other, what)
        else:
            r.elements.union(ids, other)


@_rule(
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "batch_norm",
    "cudnn_batch_norm", "_batch_norm_with_update", "_batch_norm_no_update", "miopen_batch_norm",
    "_native_batch_norm_legit_functional",
)  # fmt: skip
def batch_normed(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    a = _arguments(func, args, kwargs)
    x = a["input"]
    labels = r.of(x)
    if a.get("training", False) or a.get("running_mean") is None:
        for d in range(x.ndim):
            if d != 1:
                labels = r.labeller.forbid(labels, d, "a norm is taken over them")
    ids = r.labeller.alone(labels, 1)
    vectors = [a.get(k) for k in ("weight", "bias", "running_mean", "running_var")]
    own = [r.labeller.alone(r.of(v), 0) for v in vectors if isinstance(v, Tensor)]
    norm = r.norm((*BATCH_NORMS, *INSTANCE_NORMS), x.shape[1])
    _join_or_fix(r, ids, [*own, norm], "a norm of channels that cannot be removed")
    r.put(_tensors(out)[0], r.labeller.tidy(labels))


@_rule("native_layer_norm", "layer_norm", "_fused_rms_norm", "rms_norm")
def layer_normed(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    a = _arguments(func, args, kwargs)
    x, over = a["input"], len(a["normalized_shape"])
    labels = r.of(x)
    vectors = [v for v in (a.get("weight"), a.get("bias")) if isinstance(v, Tensor)]
    norm = r.norm((nn.LayerNorm,), x.shape[-1]) if over == 1 and "rms" not in name else None
    if norm is None:
        for d in range(x.ndim - over, x.ndim):
            labels = r.labeller.without(r.labeller.forbid(labels, d, "a norm is taken over them"), d)
        for v in vectors:
            for block in r.of(v):
                r.labeller.fix(block.ids, "a norm of channels that cannot be removed")
    else:
        ids = r.labeller.alone(labels, x.ndim - 1)
        own = [r.labeller.alone(r.of(v), 0) for v in vectors]
        _join_or_fix(r, ids, [*own, norm], "a norm of channels that cannot be removed")
    r.put(_tensors(out)[0], r.labeller.tidy(labels))


@_rule("native_group_norm", "group_norm")
def group_normed(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    a = _arguments(func, args, kwargs)
    x, groups = a["input"], a.get("group") or a.get("num_groups")
    labels = r.of(x)
    for d in range(2, x.ndim):
        labels = r.labeller.forbid(labels, d, "a norm is taken over them")
    own = [r.labeller.alone(r.of(v), 0) for v in (a.get("weight"), a.get("bias")) if isinstance(v, Tensor)]
    norm = r.norm((nn.GroupNorm,), x.shape[1])
    ids = r.labeller.alone(labels, 1)
    if ids is not None and (norm is None or groups == 1):
        r.labeller.fix(
            ids, "a group norm is taken over all of them" if groups == 1 else "groups are normalised by a function"
        )
    elif ids is not None:
        r.elements.union(ids.reshape(groups, -1), ids.reshape(groups, -1)[:, :1])
    _join_or_fix(r, ids, [*own, norm], "a norm of channels that cannot be removed")
    r.put(_tensors(out)[0], r.labeller.tidy(labels))


# Layers


@_rule(
    "convolution", "_convolution", "conv1d", "conv2d", "conv3d", "mkldnn_convolution", "cudnn_convolution",
    "convolution_overrideable",
)  # fmt: skip
def convolved(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    a = _arguments(func, args, kwargs)
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
        _join_or_fix(r, x_ids, [w_in], fixed)
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
        _join_or_fix(r, out_ids, [own], "its channels cannot be removed")
    kept = [b for b in r.labeller.tidy(labels) if b.dims == (0,)]
    r.put(_tensors(out)[0], r.labeller.tidy(kept if out_ids is None else [*kept, Block((1,), out_ids)]))


def _product(
    r: Recorder, a: tuple[tuple[int, ...], Labels], b: tuple[tuple[int, ...], Labels], what: str
) -> tuple[tuple[int, ...], Labels]:
    """`a @ b` of (..., n, k) and (..., k, m), with equal leading dimensions."""
    rank = len(a[0])
    left, right = r.labeller.contract(a, b, rank - 1, rank - 2, what)
    return r.labeller.combine([((*a[0][:-1], 1), left), ((*b[0][:-2], 1, b[0][-1]), right)], what)


@_rule("mm", "bmm", "addmm", "baddbmm", "matmul", "dot", "mv", "addmv", "addbmm", "_addmm_activation", "_int_mm")
def multiplied(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    tensors = _tensors(args)
    a, b = tensors[-2:]
    shapes = [tuple(a.shape), tuple(b.shape)]
    labels = [r.of(a), r.of(b)]
    if len(shapes[0]) == 1:
        labels[0], shapes[0] = r.labeller.moved(labels[0], [1]), (1, *shapes[0])
    if len(shapes[1]) == 1:
        shapes[1] = (*shapes[1], 1)
    shape, result = _product(r, (shapes[0], labels[0]), (shapes[1], labels[1]), "a product")
    result = r.labeller.reshape(result, shape, tuple(out.shape))
    if len(tensors) == 3:
        _, result = r.labeller.combine(
            [(tuple(out.shape), result), (tuple(tensors[0].shape), r.of(tensors[0]))], "a sum"
        )
    r.put(out, result)


@_rule("linear", "mkldnn_linear", "_mkl_linear")
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


@_rule(
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_attention_math", "scaled_dot_product_attention",
    "_scaled_dot_product_fused_attention_overrideable", "_scaled_dot_product_attention_math_for_mps",
)  # fmt: skip
def attended(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    a = _arguments(func, args, kwargs)
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
    shape, scores = _product(r, sides[0], turned, "attention")
    mask = a.get("attn_mask") if isinstance(a.get("attn_mask"), Tensor) else a.get("attn_bias")
    if isinstance(mask, Tensor):
        shape, scores = r.labeller.combine([(shape, scores), (tuple(mask.shape), r.of(mask))], "attention")
    scores = r.labeller.without(r.labeller.forbid(scores, rank - 1, "attention mixes them"), rank - 1)
    _, result = _product(r, (shape, scores), sides[2], "attention")
    r.put(_tensors(out)[0], result)


@_rule("embedding")
def embedded(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    weight = args[0]
    labels = r.labeller.forbid(r.of(weight), 0, "an embedding looks them up")
    ids = r.labeller.alone(labels, 1)
    r.put(out, () if ids is None else (Block((out.ndim - 1,), ids),))


# Spatial


@_rule(
    "max_pool2d_with_indices", "max_pool1d", "max_pool2d", "max_pool3d", "max_pool3d_with_indices", "avg_pool1d",
    "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_max_pool2d", "adaptive_max_pool3d", "adaptive_max_pool1d",
    "fractional_max_pool2d", "max_pool1d_with_indices", "adaptive_avg_pool3d", "mkldnn_max_pool2d",
    "mkldnn_adaptive_avg_pool2d", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d",
    "upsample_bilinear2d", "upsample_bicubic2d", "upsample_linear1d", "upsample_trilinear3d",
    "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d",
    "_upsample_nearest_exact3d", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d",
    "replication_pad2d", "replication_pad3d", "grid_sampler_2d", "grid_sampler",
)  # fmt: skip
def spatial(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    x = args[0]
    labels = r.of(x)
    changed = [d for d in range(x.ndim) if x.shape[d] != _tensors(out)[0].shape[d]]
    for d in {*range(2, x.ndim), *changed} if x.ndim > 2 else changed:
        labels = r.labeller.without(r.labeller.forbid(labels, d, f"{name} works along them"), d)
    for result in _tensors(out):
        r.put(result, labels)


@_rule("pixel_shuffle", "pixel_unshuffle", "native_channel_shuffle", "channel_shuffle")
def shuffled(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    x, n = args[0], args[1]
    dim = 1 if "channel" in name else x.ndim - 3
    ids = r.labeller.alone(r.of(x), dim)
    if ids is None:
        return
    if "channel" in name:
        table = ids.reshape(n, -1)
        r.labeller.rectangles.append(table)
        result = table.T.ravel()
    elif name == "pixel_shuffle":
        table = ids.reshape(-1, n * n)
        r.elements.union(table, table[:, :1])
        result = table[:, 0]
    else:
        result = np.repeat(ids, n * n)
    r.put(out, r.labeller.tidy([Block((dim,), result)]))


@_rule("im2col", "col2im")
def columns(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    x = args[0]
    ids = r.labeller.alone(r.of(x), 1)
    if ids is None or x.ndim < 3:
        return
    if name == "im2col":
        result = np.repeat(ids, out.shape[1] // x.shape[1])
    else:
        table = ids.reshape(out.shape[1], -1)
        r.elements.union(table, table[:, :1])
        result = table[:, 0]
    r.put(out, r.labeller.tidy([Block((1,), result)]))


# Indexing


@_rule("index", "_unsafe_index", "index_select", "gather", "take_along_dim")
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
