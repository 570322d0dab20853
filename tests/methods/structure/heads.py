"""Attention as people write it."""

import torch
import torch.nn.functional as F
from greenprune.methods.structure.units import Structure
from torch import Tensor, nn

DIM, HEADS, LENGTH = 16, 4, 5


class Around(nn.Module):
    """`attention` in a residual branch behind a norm, and a classifier."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(6, DIM), nn.LayerNorm(DIM)
        self.attention, self.head = attention, nn.Linear(DIM, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head((x + self.attention(self.norm(x))).mean(1))


class Packed(nn.Module):
    """As timm writes it: the number of heads and their width are attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim = HEADS, DIM // HEADS, DIM
        self.qkv, self.proj = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        x = (q @ k.transpose(-2, -1) * self.head_dim**-0.5).softmax(-1) @ v
        return self.proj(x.transpose(1, 2).reshape(b, n, self.attn_dim))


class FromTheInput(Packed):
    """As it is often written: the width of the heads follows from that of the input."""

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


class InMethods(Packed):
    """Its sizes are named in another method, as one tuple."""

    def split(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], HEADS, x.shape[-1] // HEADS)
        return x.view(shape).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.split(t) for t in self.qkv(x).chunk(3, dim=-1))
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.proj(x.reshape(x.shape[0], -1, DIM))


class Grouped(nn.Module):
    """Two queries for each key; `window` happens to be as large as the number of heads."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.groups, self.window = HEADS, HEADS // 2, 2, HEADS
        self.q, self.kv = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        assert self.window == HEADS
        q = self.q(x).view(b, n, self.heads, -1).transpose(1, 2)
        k, v = (t.view(b, n, self.kv_heads, -1).transpose(1, 2) for t in self.kv(x).chunk(2, dim=-1))
        k, v = (
            t[:, :, None].expand(b, self.kv_heads, self.groups, n, t.shape[-1]).reshape(b, self.heads, n, t.shape[-1])
            for t in (k, v)
        )
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Multihead(nn.Module):
    def __init__(self, **options: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(DIM, HEADS, **options)

    def forward(self, x: Tensor) -> Tensor:
        if not self.attention.batch_first:
            x = x.transpose(0, 1)
        x = self.attention(x, x, x, need_weights=False)[0]
        return x if self.attention.batch_first else x.transpose(0, 1)


class Cross(nn.Module):
    """Key and value have widths of their own, so there are three weights."""

    def __init__(self, **options: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(DIM, HEADS, batch_first=True, kdim=8, vdim=12, **options)
        self.key, self.value = nn.Linear(DIM, 8), nn.Linear(DIM, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, self.key(x), self.value(x), need_weights=False)[0]


class Table(nn.Module):
    """A table of biases that is asked, and not called, as timm's RelPosBias."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(LENGTH * LENGTH, HEADS))
        self.shape = (LENGTH, LENGTH, HEADS)

    def bias(self) -> Tensor:
        return self.table.view(self.shape).permute(2, 0, 1)


class Asked(Packed):
    def __init__(self) -> None:
        super().__init__()
        self.positions = Table()

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v, self.positions.bias())
        return self.proj(x.transpose(1, 2).reshape(b, n, self.attn_dim))


class ByFunctions(Packed):
    """Its linear layers are never called; a table of biases lies along the heads."""

    def __init__(self) -> None:
        super().__init__()
        self.bias_table = nn.Parameter(torch.randn(HEADS, LENGTH, LENGTH))

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        qkv = F.linear(x, self.qkv.weight, self.qkv.bias)
        q, k, v = qkv.reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        x = (q @ k.transpose(-2, -1) + self.bias_table).softmax(-1) @ v
        return F.linear(x.transpose(1, 2).flatten(2), self.proj.weight, self.proj.bias)


class Conv1D(nn.Module):
    """The linear layer of transformers' GPT-2."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf) * 0.2), nn.Parameter(torch.zeros(nf))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], self.nf)


class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = Conv1D(3 * DIM, DIM), Conv1D(DIM, DIM)
        self.split_size, self.heads = DIM, HEADS

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            t.view(*t.shape[:-1], self.heads, -1).transpose(1, 2) for t in self.qkv(x).split(self.split_size, dim=2)
        )
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


KINDS = {
    "packed": (Packed, HEADS),
    "from the input": (FromTheInput, HEADS),
    "in methods": (InMethods, HEADS),
    "grouped": (Grouped, HEADS // 2),
    "multihead": (Multihead, HEADS),
    "multihead, batch first": (lambda: Multihead(batch_first=True), HEADS),
    "multihead, no bias": (lambda: Multihead(bias=False), HEADS),
    "multihead, three weights": (Cross, HEADS),
    "multihead, three weights, no bias": (lambda: Cross(bias=False), HEADS),
    "multihead, further keys": (lambda: Multihead(add_bias_kv=True, add_zero_attn=True), HEADS),
    "a table that is asked": (Asked, HEADS),
    "by functions": (ByFunctions, HEADS),
    "transposed": (Transposed, HEADS),
}


def inputs(batch: int = 3) -> Tensor:
    return torch.randn(batch, LENGTH, 6, generator=torch.Generator().manual_seed(5))


def build(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return Around(KINDS[kind][0]()).eval()


def half(structure: Structure, seed: int, only: Tensor | None = None) -> Tensor:
    keep = torch.rand(structure.units, generator=torch.Generator().manual_seed(seed)) < 0.5
    for group in structure.groups:
        keep[group.start], keep[group.start + 1] = True, False
    for branch in structure.branches:
        keep[branch.unit] = True
    return keep if only is None else keep | ~only
