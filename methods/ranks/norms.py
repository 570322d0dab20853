"""Batch norm over the batch of all processes, whatever module calls it.

`SyncBatchNorm` is for CUDA alone, and a module of another class: pruning methods look for batch norms by their class, replace
them when they cut, and call `batch_norm` themselves with masked scales. What all of them end in is one function of PyTorch's,
so that is where the statistics are made those of the whole batch, inside of `global_batch_norm`, in forward and backward.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from greenprune.methods.ranks import together
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode


def global_batch_norm() -> AbstractContextManager[Any]:
    """Inside, batch norms in training see the images of all processes. The last forward pass may be recomputed inside too."""
    return _Global() if together.several() else nullcontext()


class _Global(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.batch_norm:
            return _functional(*args, **(kwargs or {}))
        if func is torch.batch_norm:
            return _bare(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _functional(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    return batch_norm(input, running_mean, running_var, weight, bias, momentum, eps)


def _bare(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    return _functional(input, running_mean, running_var, weight, bias, training, momentum, eps)


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """As `torch.nn.functional.batch_norm` in training, over the images of all processes, which may be of different numbers."""
    mean, var, count = statistics(x.detach())
    if x.numel() // x.shape[1] * together.size() <= 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * (count / (count - 1))).to(running_var.dtype), momentum)
    return _Normalised.apply(x, weight, bias, mean, var, count, eps)


def statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(C,) mean and (C,) biased variance of (B, C, ...) over all processes, in float32 at least, and (1,) of how many values.

    They come from each process's mean and variance (Chan et al. 1979), which loses nothing where a mean is large.
    """
    dims = [d for d in range(x.ndim) if d != 1]
    exact = x if x.dtype in (torch.float32, torch.float64) else x.float()
    own = x.numel() // x.shape[1]
    var, mean = torch.var_mean(exact, dims, correction=0) if own else (exact.new_zeros(x.shape[1]),) * 2
    found = together.each(torch.cat([mean, var, mean.new_full((1,), float(own))]))
    means, variances = found[:, : x.shape[1]], found[:, x.shape[1] : -1]
    count = found[:, -1].sum()  # it stays a tensor: a GPU would have to be waited for
    shares = found[:, -1:] / count
    mean = (means * shares).sum(0)
    var = ((variances + (means - mean).square()) * shares).sum(0)
    return mean, var, count


class _Normalised(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        count: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.eps = eps
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, of_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, count = ctx.saved_tensors
        scale = torch.ones_like(mean) if weight is None else weight
        direct, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            of_y, x, scale, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        of_x = None
        if ctx.needs_input_grad[0]:
            # What a value changes of the statistics changes the outputs of all images, here and in the other processes.
            sums = together.summed(torch.stack([of_bias, of_weight]).to(mean.dtype)) / count
            inverse = torch.rsqrt(var + ctx.eps)
            slope = scale * inverse * inverse * sums[1]
            shift = scale * inverse * sums[0] - slope * mean
            shape = [1, -1] + [1] * (x.ndim - 2)
            of_x = direct - (x * slope.view(shape) + shift.view(shape)).to(direct.dtype)
        of_scale = None if weight is None else of_weight
        return of_x, of_scale, of_bias if ctx.needs_input_grad[2] else None, None, None, None, None
