"""Multiply-accumulates of single operations, as PyTorch dispatches them: every product of matrices that it knows.

A product is what a multiplication and an addition for each term make: products of matrices, convolutions, attention,
recurrent layers. Sums, norms, activations and everything else that works entry by entry count nothing. What has a product
inside and is not known here is told apart (`is_uncounted`), so that nobody takes it for free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

_Rule = Callable[[dict[str, Any], Any], int]
_RULES: dict[str, _Rule] = {}

CONVOLVING = (
    "convolution", "_convolution", "convolution_overrideable", "mkldnn_convolution", "cudnn_convolution",
    "cudnn_convolution_transpose", "cudnn_convolution_relu", "cudnn_convolution_add_relu", "miopen_convolution",
    "miopen_convolution_transpose", "miopen_depthwise_convolution", "conv1d", "conv2d", "conv3d", "conv_transpose1d",
    "conv_transpose2d", "conv_transpose3d", "_slow_conv2d_forward", "slow_conv3d_forward", "_conv_depthwise2d",
    "conv_depthwise3d", "thnn_conv2d", "slow_conv3d",
)  # fmt: skip

_UNCOUNTED = (
    "_fft_", "fft_", "linalg_", "_linalg_", "_cholesky", "cholesky", "_lu_", "lu_", "triangular_solve", "lstsq", "geqrf",
    "orgqr", "ormqr", "grid_sampler", "cudnn_grid_sampler", "_spdiags", "_sparse_", "sparse_", "hspmm", "sspaddmm",
    "_native_multi_head_attention", "_triton_", "_transformer_encoder_layer_fwd", "_grouped_mm", "_scaled_grouped_mm",
    "_cslt_", "_weight_int", "_dyn_quant", "matrix_exp", "fbgemm_", "stft", "istft", "_slow_conv", "conv_tbc",
    "_conv_depthwise", "quantized_", "histogramdd",
)  # fmt: skip
"""Beginnings of the names of ATen's operations that multiply, or solve, and have no rule."""

_ENTRYWISE = ("linalg_vector_norm", "linalg_cross", "linalg_diagonal", "_sparse_softmax", "_sparse_log_softmax")
"""Of these the ones that do not."""

_KNOWN_SPACES = ("aten", "prim", "prims", "profiler", "c10d", "_c10d_functional", "c10d_functional", "higher_order")
_FREE = ("torchvision::nms", "torchvision::roi_pool", "torchvision::ps_roi_pool")


def macs_of(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int | None:
    """Multiply-accumulates of one call of an operation that gave `out`; None where it is no product that is known."""
    rule = _RULES.get(operation(func))
    return None if rule is None else rule(arguments(func, args, kwargs), out)


def is_uncounted(func: Any) -> bool:
    """Whether the operation multiplies in a way that no rule counts, or is none of PyTorch's own, so that it may."""
    name = operation(func)
    if name in _RULES:
        return False
    if "::" in name:
        return name.split("::")[0] not in _KNOWN_SPACES and name not in _FREE
    return name.startswith(_UNCOUNTED) and name not in _ENTRYWISE


def operation(func: Any) -> str:
    """Its name, without ATen's prefix and the overload."""
    name = func._schema.name if hasattr(func, "_schema") else str(func)
    return name.removeprefix("aten::")


def arguments(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
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


def filter_size(weight: Tensor) -> int:
    """Entries of one of the filters along its first dimension: by shapes alone, as an operation would be one of the network."""
    return weight.numel() // weight.shape[0]


def _rule(*names: str) -> Callable[[_Rule], _Rule]:
    def register(function: _Rule) -> _Rule:
        _RULES.update(dict.fromkeys(names, function))
        return function

    return register


def _first(out: Any) -> Tensor:
    return next(t for t in tree_leaves(out) if isinstance(t, Tensor))


@_rule("mm", "_int_mm", "_scaled_mm", "_sparse_mm")
def _mm(a: dict[str, Any], out: Any) -> int:
    left = a.get("self", a.get("sparse"))
    right = a.get("mat2", a.get("dense"))
    return left.shape[0] * left.shape[1] * right.shape[1]  # type: ignore[union-attr]


@_rule("addmm", "_addmm_activation")
def _addmm(a: dict[str, Any], out: Any) -> int:
    return a["mat1"].shape[0] * a["mat1"].shape[1] * a["mat2"].shape[1]


@_rule("bmm")
def _bmm(a: dict[str, Any], out: Any) -> int:
    return prod(a["self"].shape) * a["mat2"].shape[2]


@_rule("baddbmm", "addbmm")
def _baddbmm(a: dict[str, Any], out: Any) -> int:
    return prod(a["batch1"].shape) * a["batch2"].shape[2]


@_rule("dot", "vdot", "mv")
def _vectors(a: dict[str, Any], out: Any) -> int:
    return a["self"].numel()


@_rule("addmv")
def _addmv(a: dict[str, Any], out: Any) -> int:
    return a["mat"].numel()


@_rule("addr")
def _addr(a: dict[str, Any], out: Any) -> int:
    return a["vec1"].numel() * a["vec2"].numel()


@_rule("linear", "mkldnn_linear", "_mkl_linear")
def _linear(a: dict[str, Any], out: Any) -> int:
    return _first(out).numel() * a.get("self", a.get("input")).shape[-1]  # type: ignore[union-attr]


@_rule(*CONVOLVING)
def _convolution(a: dict[str, Any], out: Any) -> int:
    x, weight = a.get("input", a.get("self")), a["weight"]
    if a.get("transposed") or (
        "output_padding" in a and "transposed" not in a
    ):  # every entry of the input meets a filter
        return x.numel() * filter_size(weight)  # type: ignore[union-attr]
    return _first(out).numel() * filter_size(weight)


@_rule("torchvision::deform_conv2d")
def _deformed(a: dict[str, Any], out: Any) -> int:
    return _first(out).numel() * filter_size(a["weight"])


@_rule(
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable", "_scaled_dot_product_attention_math_for_mps",
    "_fused_sdp_choice_product",
)  # fmt: skip
def _attention(a: dict[str, Any], out: Any) -> int:
    """Both products, queries by keys and scores by values; a causal mask saves nothing, as in published figures."""
    query, key, value = a["query"], a["key"], a["value"]
    return prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


@_rule("_flash_attention_forward", "_efficient_attention_forward")
def _attention_by_rows(a: dict[str, Any], out: Any) -> int:
    """As `_attention`, with the heads behind the rows: (B, length, heads, width)."""
    query, key, value = a["query"], a["key"], a["value"]
    if a.get("cum_seq_q") is not None or a.get("cu_seqlens_q") is not None:  # rows of several sequences
        length = a.get("max_k", a.get("max_seqlen_k")) or key.shape[-3]
        return prod(query.shape[:-1]) * int(length) * (query.shape[-1] + value.shape[-1])
    return prod(query.shape[:-1]) * key.shape[-3] * (query.shape[-1] + value.shape[-1])


@_rule("mkldnn_rnn_layer")
def _mkldnn_rnn(a: dict[str, Any], out: Any) -> int:
    x = a["input"]
    return x.shape[0] * x.shape[1] * (a["weight0"].numel() + a["weight1"].numel())


@_rule("_cudnn_rnn", "miopen_rnn")
def _cudnn_rnn(a: dict[str, Any], out: Any) -> int:
    x = a["input"]
    return x.numel() // x.shape[-1] * sum(w.numel() for w in a["weight"] if w.ndim == 2)


@_rule("_trilinear")
def _trilinear(a: dict[str, Any], out: Any) -> int:
    tensors = [a["i1"], a["i2"], a["i3"]]
    sizes: dict[int, int] = {}
    for tensor, added in zip(tensors, (a["expand1"], a["expand2"], a["expand3"]), strict=True):
        dims = [d for d in range(tensor.ndim + len(added)) if d not in added]
        for d, size in zip(dims, tensor.shape, strict=True):
            sizes[d] = max(sizes.get(d, 1), size)
    return prod(sizes.values())


@_rule("_cdist_forward", "_euclidean_dist")
def _cdist(a: dict[str, Any], out: Any) -> int:
    return _first(out).numel() * a["x1"].shape[-1]
