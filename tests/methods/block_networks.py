"""Small networks whose residual branches are written as users write them."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 16


class Attention(nn.Module):
    """Its code takes shapes apart and has arguments that are seldom given."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.qkv, self.proj, self.drop = nn.Linear(width, 3 * width), nn.Linear(width, width), nn.Dropout(0.1)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, weights: bool = False) -> Tensor:
        B, N, C = x.shape  # noqa: N806 - as people write it
        q, k, v = self.qkv(x).reshape(B, N, 3, 2, C // 2).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(B, N, C)
        return self.drop(self.proj(y))


class Scale(nn.Module):
    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * x


class DropPath(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * torch.empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(0.9) / 0.9


def mlp(width: int = WIDTH) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * width, width))


class PreNorm(nn.Module):
    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.norm1, self.attn, self.scale1 = nn.LayerNorm(width), Attention(width), Scale(width)
        self.norm2, self.mlp, self.scale2 = nn.LayerNorm(width), mlp(width), Scale(width)
        self.drop = DropPath()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.drop(self.scale1(self.attn(self.norm1(x), mask)))
        return x + self.drop(self.scale2(self.mlp(self.norm2(x))))


def decorated(forward):  # type: ignore[no-untyped-def]
    @functools.wraps(forward)
    def wrapper(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        return forward(self, *args, **{k: v for k, v in kwargs.items() if v is not None})

    return wrapper


class ByKeyword(nn.Module):
    """Everything by keyword, a decorator, a tuple as result: torch.fx has no way in."""

    kind = "full"

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attn = nn.LayerNorm(WIDTH), Inner()

    @decorated
    def forward(self, hidden_states: Tensor, **kwargs: object) -> Tensor:
        residual = hidden_states
        out, _ = self.attn(hidden_states=self.norm(hidden_states), weights=True, **kwargs)
        return residual + out


class Inner(Attention):
    @decorated
    def forward(self, hidden_states: Tensor, *, weights: bool = False, **kwargs: object) -> tuple[Tensor, None]:
        return super().forward(hidden_states), None


class PostNorm(nn.Module):
    """The module that adds is another than the one in which the branch begins."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.output = nn.ModuleDict({"self": Attention()}), Output(WIDTH)
        self.intermediate, self.last = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU()), Output(2 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.output(self.attention["self"](x), x)
        return self.last(self.intermediate(x), x)


class Output(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense, self.dropout, self.norm = nn.Linear(width, WIDTH), nn.Dropout(0.1), nn.LayerNorm(WIDTH)

    def forward(self, hidden: Tensor, x: Tensor) -> Tensor:
        return self.norm(self.dropout(self.dense(hidden)) + x)


class Parallel(nn.Module):
    """One norm and one dropout for both branches."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attn, self.mlp, self.drop = nn.LayerNorm(WIDTH), Attention(), mlp(), nn.Dropout(0.1)

    def forward(self, x: Tensor, **kwargs: object) -> Tensor:
        y = self.norm(x)
        return self.drop(self.attn(y)) + self.drop(self.mlp(y)) + x


class Windows(nn.Module):
    """Folds pieces of the sequence into the batch, like Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attn, self.scale = nn.LayerNorm(WIDTH), Attention(), nn.Parameter(torch.full((WIDTH,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        B, N, C = x.shape  # noqa: N806 - as people write it
        y = self.attn(self.norm(x).view(B * 2, N // 2, C))
        return x + self.scale * y.view(B, N, C)


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = mlp(), mlp(), mlp()

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.0
        x += self.first(x.clone())
        y = self.second(x)
        y += x
        return torch.add(self.third(y), y) * 0.5


class Encoder(nn.Module):
    def __init__(self, *, norm_first: bool) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, batch_first=True, norm_first=norm_first)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Tokens(nn.Module):
    """`blocks` on (B, 8, 3) sequences."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.embed, self.blocks, self.norm = nn.Linear(3, WIDTH), nn.Sequential(*blocks), nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embed(x))).mean(1))


class PreActivation(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


def pre_activation() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), PreActivation(), PreActivation(), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip


NETWORKS = {
    "pre_norm": (lambda: Tokens(PreNorm(), PreNorm()), 4),
    "by_keyword": (lambda: Tokens(ByKeyword(), ByKeyword()), 2),
    "post_norm": (lambda: Tokens(PostNorm(), PostNorm()), 4),
    "parallel": (lambda: Tokens(Parallel(), Parallel()), 4),
    "windows": (lambda: Tokens(Windows(), Windows()), 2),
    "in_place": (lambda: Tokens(InPlace()), 3),
    "encoder_pre": (lambda: Tokens(Encoder(norm_first=True)), 2),
    "encoder_post": (lambda: Tokens(Encoder(norm_first=False)), 2),
    "pre_activation": (pre_activation, 2),
}
"""Name -> (how to make it, how many branches it has)."""


def network(name: str) -> tuple[nn.Module, Tensor]:
    """In double precision, with values in what starts at one value; and a batch for it."""
    torch.manual_seed(0)
    model = NETWORKS[name][0]().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(4, 3, 10, 10) if name == "pre_activation" else torch.randn(4, 8, 3)
    return model, x.double()
