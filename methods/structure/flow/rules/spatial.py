"""Pooling, resampling, shuffles of channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from greenprune.methods.structure.flow.labels import Block
from greenprune.methods.structure.flow.recorder import Recorder
from greenprune.methods.structure.flow.rules.registry import (
    rule,
    tensors_in,
)


@rule(
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
    changed = [d for d in range(x.ndim) if x.shape[d] != tensors_in(out)[0].shape[d]]
    for d in {*range(2, x.ndim), *changed} if x.ndim > 2 else changed:
        labels = r.labeller.without(r.labeller.forbid(labels, d, f"{name} works along them"), d)
    for result in tensors_in(out):
        r.put(result, labels)


@rule("pixel_shuffle", "pixel_unshuffle", "native_channel_shuffle", "channel_shuffle")
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


@rule("im2col", "col2im")
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
