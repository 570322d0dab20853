"""`nn.MultiheadAttention` with fewer heads: its code insists on heads times width being the width of its input.

What replaces it has the same parameters under the same names, is an `nn.MultiheadAttention` itself, takes the same
arguments, and works in `nn.TransformerEncoderLayer` too. Its code is stored with it (`rewriting`).
"""

from __future__ import annotations

import torch
from greenprune.methods.structure.parameters import cut_parameter
from greenprune.methods.structure.rewriting import make_class, original
from greenprune.methods.structure.units import projections
from torch import Tensor, nn

FORWARD = """
import torch
import torch.nn.functional as F


def forward(self, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None,
            average_attn_weights=True, is_causal=False):
    batched = query.dim() == 3
    if not batched:
        query, key, value = (t.unsqueeze(0 if self.batch_first else 1) for t in (query, key, value))
        if key_padding_mask is not None:
            key_padding_mask = key_padding_mask.unsqueeze(0)
    if not self.batch_first:
        query, key, value = (t.transpose(0, 1) for t in (query, key, value))
    biases = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
    separate = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
    weights = separate if self.in_proj_weight is None else self.in_proj_weight.chunk(3)
    q, k, v = (F.linear(t, w, b) for t, w, b in zip((query, key, value), weights, biases))
    masks = key_padding_mask, attn_mask
    if self.bias_k is not None:
        k = torch.cat([k, self.bias_k.expand(k.shape[0], -1, -1)], dim=1)
        v = torch.cat([v, self.bias_v.expand(v.shape[0], -1, -1)], dim=1)
        masks = tuple(m if m is None else F.pad(m, (0, 1)) for m in masks)
    if self.add_zero_attn:
        k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        masks = tuple(m if m is None else F.pad(m, (0, 1)) for m in masks)
    q, k, v = (t.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2) for t in (q, k, v))
    padding, given = (
        torch.zeros_like(m, dtype=q.dtype).masked_fill(m, float("-inf")) if m is not None and m.dtype == torch.bool else m
        for m in masks
    )
    mask = None
    if given is not None:
        if given.dim() == 3 and given.shape[0] != q.shape[0]:
            given = self._of_heads_left(given.unflatten(0, (q.shape[0], -1)))
        elif given.dim() == 3:
            given = given.unsqueeze(1)
        mask = given
    if padding is not None:
        padding = padding[:, None, None, :]
        mask = padding if mask is None else mask + padding
    dropout = self.dropout if self.training else 0.0
    weights = None
    if need_weights:
        scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5
        weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
        x = weights @ v
        weights = weights.mean(1) if average_attn_weights else weights
        weights = weights if batched else weights.squeeze(0)
    else:
        x = F.scaled_dot_product_attention(q, k, v, mask, dropout)
    x = self.out_proj(x.transpose(1, 2).flatten(2))
    if not self.batch_first:
        x = x.transpose(0, 1)
    return (x if batched else x.squeeze(0 if self.batch_first else 1)), weights
"""
"""As in PyTorch: a mask that is True, or -inf, is not attended to; `is_causal` is a hint beside a mask."""

OF_HEADS_LEFT = '''
def forward(self, mask):
    """(B, heads, L, S) of the heads that are left, of a mask made for them or for as many heads as there were."""
    return mask if mask.shape[1] == self.num_heads else mask[:, self.heads_left]
'''


def cut_heads(
    attention: nn.MultiheadAttention, rows: Tensor, columns: Tensor, optimizer: torch.optim.Optimizer | None
) -> None:
    """Keep the rows of query, key and value, numbered through, in place: whole heads of all three alike.

    Args:
        columns: inputs to keep, of the packed weight or of the query's; those of key and value are cut as parameters.
    """
    width, names = attention.head_dim, projections(attention)
    heads = rows[: len(rows) // 3][::width] // width
    before = getattr(attention, "heads_left", list(range(attention.num_heads)))
    for i, name in enumerate(names):
        own = rows if len(names) == 1 else rows[: len(rows) // 3]
        cut_parameter(attention, name, {0: own, 1: columns} if i == 0 else {0: own}, optimizer)
    cut_parameter(attention, "in_proj_bias", {0: rows}, optimizer)
    _set_heads(attention, [before[int(h)] for h in heads])


def _set_heads(attention: nn.MultiheadAttention, left: list[int]) -> None:
    attention.num_heads = len(left)
    attention.heads_left = left  # type: ignore[assignment]
    widths = [attention.get_parameter(name).shape[1] for name in projections(attention)]
    attention.embed_dim, attention.kdim, attention.vdim = widths * 3 if len(widths) == 1 else widths
    attention._qkv_same_embed_dim = False  # PyTorch's fused kernels must not be tried on it
    attention.__class__ = make_class(original(type(attention)), {"forward": FORWARD, "_of_heads_left": OF_HEADS_LEFT})  # type: ignore[assignment]


def resize_heads(attention: nn.MultiheadAttention, tensors: dict[str, Tensor]) -> None:
    """Give it the shape of stored tensors (values are loaded later)."""
    first = projections(attention)[0]
    alike = all(
        tensors[name].shape == p.shape for name, p in attention.named_parameters(recurse=False) if name in tensors
    )
    if alike or first not in tensors:
        return
    for name in [n for n in attention._parameters if n in tensors]:
        setattr(attention, name, nn.Parameter(torch.empty_like(tensors[name])))
    rows = len(tensors[first]) // (3 if first == "in_proj_weight" else 1)
    _set_heads(attention, list(range(rows // attention.head_dim)))
