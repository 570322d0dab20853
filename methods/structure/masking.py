"""Masks over channels, and the layer norm that leaves masked channels out of its statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from greenprune.methods.structure.modes import as_they_were
from greenprune.methods.structure.units import projections
from torch import Tensor, nn


def along(mask: Tensor, x: Tensor, dim: int) -> Tensor:
    """`mask`, (C,) or one row per image (B, C), shaped to multiply `x` along its dimension `dim`."""
    shape = [1] * x.ndim
    shape[dim] = mask.shape[-1]
    if mask.ndim == 2:
        shape[0] = mask.shape[0]
    return mask.to(x.dtype).view(shape)


def scaled(output: Any, factor: Callable[[Tensor], Tensor]) -> Any:
    """What a module gave; every tensor of numbers in it is multiplied by what `factor` says to it."""
    if isinstance(output, Tensor):
        return output * factor(output) if output.is_floating_point() else output
    return type(output)(scaled(o, factor) for o in output) if type(output) in (tuple, list) else output


def forget_cached(model: nn.Module) -> None:
    """Let modules drop what they computed from their parameters and keep for evaluation (levit's attention biases).

    They do so when they are put into training mode; the modes stay as they are.
    """
    with as_they_were(model):
        model.train()


def masked_parameters(layer: nn.Module, mask: Tensor) -> dict[str, Tensor]:
    """Weight and bias of a layer, by name, with what makes output channel c multiplied by mask[c]; mask is (C,) or (1,)."""
    if isinstance(layer, nn.MultiheadAttention):
        return _masked_attention(layer, mask)
    result = {}
    for name in ("weight", "bias"):
        tensor = getattr(layer, name, None)
        if tensor is not None:
            last = tensor.ndim == 2 and hasattr(layer, "nf")
            rows = mask.to(tensor) if last or tensor.ndim == 1 else mask.to(tensor).view(-1, *[1] * (tensor.ndim - 1))
            result[name] = tensor * rows
    return result


def _masked_attention(layer: nn.MultiheadAttention, mask: Tensor) -> dict[str, Tensor]:
    """What `masked_parameters` gives for the rows of query, key and value; a row that is attended to besides is masked too."""
    names = projections(layer)
    _, key, value = parts = mask.expand(3).chunk(3) if len(mask) == 1 else mask.chunk(3)
    rows = dict(zip(names, (mask,) if len(names) == 1 else parts, strict=True))
    result = {name: getattr(layer, name) * part.to(layer.out_proj.weight)[:, None] for name, part in rows.items()}
    for name, part in (("in_proj_bias", mask), ("bias_k", key), ("bias_v", value)):
        tensor = getattr(layer, name)
        if tensor is not None:
            result[name] = tensor * part.to(tensor)
    return result


def masked_layer_norm(norm: nn.LayerNorm, x: Tensor, mask: Tensor, dim: int) -> Tensor:
    """What `norm` gives when the masked channels are not there: mean and variance over the open ones, zero elsewhere.

    Args:
        norm: over one dimension of C channels.
        x: (B, ...), its channels along `dim`.
        mask: (C,) or (B, C); differentiable.
    """
    # Half precision holds neither a sum over many channels nor the reciprocal of a small variance.
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    m = along(mask, wide, dim)
    count = m.sum(dim, keepdim=True).clamp_min(1.0)
    mean = (wide * m).sum(dim, keepdim=True) / count
    centred = wide - mean
    variance = (centred.square() * m).sum(dim, keepdim=True) / count
    y = centred * torch.rsqrt(variance + norm.eps)
    if norm.weight is not None:
        y = y * along(norm.weight, y, dim)
    if norm.bias is not None:
        y = y + along(norm.bias, y, dim)
    return (y * m).to(x.dtype)


@torch.no_grad()
def layer_norm_dim(norm: nn.LayerNorm, shape: torch.Size) -> int | None:
    """Along which dimension of its input of `shape` this norm works, 1 or -1, found by trying; None: along neither.

    Subclasses transpose (channels first); what they do counts, not what they are called.
    """
    if len(norm.normalized_shape) != 1:
        return None
    reference = next(iter(norm.parameters()), torch.zeros(()))
    noise = torch.randn((2, *shape[1:]), generator=torch.Generator().manual_seed(0))
    x = noise.to(reference.device, reference.dtype)
    for dim in (-1, 1):
        if x.ndim > 1 and x.shape[dim] == norm.normalized_shape[0]:
            expected = F.layer_norm(x.movedim(dim, -1), norm.normalized_shape, norm.weight, norm.bias, norm.eps)
            got = norm(x)
            if got.shape == x.shape and torch.allclose(got, expected.movedim(-1, dim), rtol=1e-2, atol=1e-2):
                return dim
    return None
