"""`nn.MultiheadAttention` with fewer heads: its code insists on heads times width being the width of its input.

What replaces it has the same parameters under the same names, is an `nn.MultiheadAttention` itself, takes the same
arguments, and works in `nn.TransformerEncoderLayer` too. Its code is stored with it (`rewriting`).
"""

from __future__ import annotations

import torch
from greenprune.methods.structure.parameters import cut_parameter
from greenprune.methods.structure.rewriting import make_class, original
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
    q, k, v = (F.linear(t, w, b) for t, w, b in zip((query, key, value), self.in_proj_weight.chunk(3), biases))
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
    """Keep the rows and columns (indices) of the packed weight, in place: whole heads of query, key and value alike."""
    width = attention.head_dim
    heads = rows[: len(rows) // 3][::width] // width
    before = getattr(attention, "heads_left", list(range(attention.num_heads)))
    cut_parameter(attention, "in_proj_weight", {0: rows, 1: columns}, optimizer)
    cut_parameter(attention, "in_proj_bias", {0: rows}, optimizer)
    _set_heads(attention, [before[int(h)] for h in heads])


def _set_heads(attention: nn.MultiheadAttention, left: list[int]) -> None:
    attention.num_heads = len(left)
    attention.heads_left = left  # type: ignore[assignment]
    attention.embed_dim = attention.kdim = attention.vdim = attention.in_proj_weight.shape[1]
    attention._qkv_same_embed_dim = False  # PyTorch's fused kernels must not be tried on it
    attention.__class__ = make_class(original(type(attention)), {"forward": FORWARD, "_of_heads_left": OF_HEADS_LEFT})  # type: ignore[assignment]


def resize_heads(attention: nn.MultiheadAttention, tensors: dict[str, Tensor]) -> None:
    """Give it the shape of stored tensors (values are loaded later)."""
    weight = tensors["in_proj_weight"]
    if weight.shape == attention.in_proj_weight.shape:
        return
    attention.in_proj_weight = nn.Parameter(torch.empty_like(weight))
    if tensors.get("in_proj_bias") is not None:
        attention.in_proj_bias = nn.Parameter(torch.empty_like(tensors["in_proj_bias"]))
    _set_heads(attention, list(range(len(weight) // 3 // attention.head_dim)))
