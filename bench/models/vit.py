"""A small vision transformer for 32×32 images.

Dosovitskiy et al. 2021 ("An Image is Worth 16x16 Words", arXiv 2010.11929): pre-norm blocks over patches of 4×4 pixels,
learned positions. As in Beyer et al. 2022 (arXiv 2205.01580) the mean over all patches is classified; there is no class
token.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 4


class Attention(nn.Module):
    """Self-attention of (B, N, dim) with `heads` heads."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, dim // heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention and MLP, each in a residual branch behind a norm."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(dim), Attention(dim, heads)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Maps (B, *shape) to (B, classes).

    Args:
        shape: channels, height and width of an image.
        dim: width of the residual stream, a multiple of `heads`.
        hidden: width of the MLPs.
    """

    def __init__(
        self, dim: int, depth: int, heads: int, hidden: int, classes: int, shape: tuple[int, int, int]
    ) -> None:
        super().__init__()
        channels, height, width = shape
        self.patches = nn.Conv2d(channels, dim, PATCH, stride=PATCH)
        self.positions = nn.Parameter(torch.zeros(1, (height // PATCH) * (width // PATCH), dim))
        self.blocks = nn.Sequential(*(Block(dim, heads, hidden) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, classes)
        nn.init.trunc_normal_(self.positions, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.blocks(x)).mean(1))


def vit_tiny_cifar(classes: int, shape: tuple[int, int, int] = (3, 32, 32)) -> ViT:
    """Four blocks of width 96, three heads, MLPs of width 192: 0.3 M parameters, 22.3 M multiply-accumulates at 32×32."""
    return ViT(dim=96, depth=4, heads=3, hidden=192, classes=classes, shape=shape)
