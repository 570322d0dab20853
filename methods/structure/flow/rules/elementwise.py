"""Operations that work position by position, and constructors."""

from __future__ import annotations

from typing import Any

from greenprune.methods.structure.flow.recorder import Recorder
from greenprune.methods.structure.flow.rules.registry import (
    rule,
    tensors_in,
)
from torch import Tensor


@rule(
    "pointwise", "where", "masked_fill", "lerp", "addcmul", "addcdiv", "bernoulli", "native_dropout", "dropout",
    "hardswish", "hardsigmoid", "hardtanh", "gelu", "silu", "mish", "elu", "celu", "selu", "leaky_relu", "softplus",
    "log_sigmoid_forward", "_prelu_kernel", "relu6", "rrelu_with_noise", "threshold", "logit", "softshrink",
    "hardshrink", "nan_to_num", "clamp", "clip", "rsub", "polar", "complex",
)  # fmt: skip
def elementwise(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    tensors = tensors_in((args, kwargs))
    written = func._schema.arguments and func._schema.arguments[0].alias_info is not None
    results = [out] if isinstance(out, Tensor) else tensors_in(out)
    if not results:
        return
    _, labels = r.labeller.combine([(tuple(t.shape), r.of(t)) for t in tensors], f"{name.rstrip('_')}")
    for result in results:
        if result.ndim:
            r.put(result, labels)
    if written and tensors:
        r.put(tensors[0], labels)


@rule(
    "clone", "detach", "alias", "contiguous", "_to_copy", "lift_fresh", "lift_fresh_copy", "zeros_like",
    "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "view_as_real", "to", "_conj", "positive",
    "resolve_conj", "resolve_neg", "_fw_primal", "fill", "zero", "normal", "uniform", "set_data", "requires_grad",
)  # fmt: skip
def same(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    r.put(out, r.of(args[0]))


@rule(
    "empty", "zeros", "ones", "full", "arange", "linspace", "new_zeros", "new_empty", "new_ones", "new_full",
    "scalar_tensor", "eye", "rand", "randn", "randint", "randperm", "tril_indices", "triu_indices",
    "_local_scalar_dense", "item", "empty_strided", "new_empty_strided", "is_same_size", "equal", "is_nonzero",
    "_assert_async", "sym_size", "size", "stride", "nonzero", "numel", "dim", "shape_as_tensor", "_shape_as_tensor",
    "is_floating_point", "result_type", "sym_numel", "sym_stride", "_has_compatible_shallow_copy_type",
)  # fmt: skip
def unlabelled(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    r.fresh(out)


@rule("copy", "_foreach_copy")
def copied(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    target, source = args[0], args[1]
    if r.is_fresh(target) and target.shape == source.shape:
        r.put(target, r.of(source))
        return
    _, labels = r.labeller.combine([(tuple(t.shape), r.of(t)) for t in (target, source)], "a copy into a tensor")
    r.put(target, labels)
    r.put(out, labels)
