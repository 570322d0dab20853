"""Batch, layer and group norms."""

from __future__ import annotations

from typing import Any

from greenprune.methods.structure.flow.recorder import Recorder
from greenprune.methods.structure.flow.rules.registry import (
    join_or_fix,
    rule,
    tensors_in,
)
from greenprune.methods.structure.operations import arguments
from greenprune.methods.structure.units import BATCH_NORMS, INSTANCE_NORMS
from torch import Tensor, nn


@rule(
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "batch_norm",
    "cudnn_batch_norm", "_batch_norm_with_update", "_batch_norm_no_update", "miopen_batch_norm",
    "_native_batch_norm_legit_functional",
)  # fmt: skip
def batch_normed(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    a = arguments(func, args, kwargs)
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
    join_or_fix(r, ids, [*own, norm], "a norm of channels that cannot be removed")
    r.put(tensors_in(out)[0], r.labeller.tidy(labels))


@rule("native_layer_norm", "layer_norm", "_fused_rms_norm", "rms_norm")
def layer_normed(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    a = arguments(func, args, kwargs)
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
        join_or_fix(r, ids, [*own, norm], "a norm of channels that cannot be removed")
    r.put(tensors_in(out)[0], r.labeller.tidy(labels))


@rule("native_group_norm", "group_norm")
def group_normed(r: Recorder, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
    a = arguments(func, args, kwargs)
    x, groups = a["input"], int(a.get("group") or a.get("num_groups") or 1)
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
    join_or_fix(r, ids, [*own, norm], "a norm of channels that cannot be removed")
    r.put(tensors_in(out)[0], r.labeller.tidy(labels))
