"""Baselines on networks that are no convolutional classifiers."""

from __future__ import annotations

import pytest
import torch
from greenprune.methods import Method, Skip, count_macs, registry
from torch import nn


class Generator(nn.Module):
    """Transposed convolutions, and no linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Linear(6, 16 * 4)
        self.up = nn.Sequential(
            nn.ConvTranspose2d(16, 12, 4, 2, 1), nn.BatchNorm2d(12), nn.ReLU(), nn.ConvTranspose2d(12, 8, 4, 2, 1),
            nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1),
        )  # fmt: skip

    def forward(self, z: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"image": self.up(self.start(z).view(len(z), 16, 2, 2))}


class Perceptron(nn.Module):
    """Token ids by name, and a transformer's MLP without a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(20, 16), nn.LayerNorm(16)
        self.up, self.down, self.head = nn.Linear(16, 64), nn.Linear(64, 16), nn.Linear(16, 5)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        x = self.embed(ids)
        x = x + self.down(torch.relu(self.up(self.norm(x))))
        return {"logits": self.head((x if mask is None else x * mask[..., None]).mean(1))}


class Attention(nn.Module):
    """Heads in packed weights, as in a vision transformer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, width // heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        x = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.proj(x.reshape(b, n, self.num_heads * self.head_dim))


class Transformer(nn.Module):
    """Two blocks of attention and MLP over patches of an image, or over tokens given by name."""

    def __init__(self, *, of_tokens: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 32) if of_tokens else nn.Conv2d(3, 32, 4, 4)
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(4))
        self.attentions = nn.ModuleList(Attention(32, 4) for _ in range(2))
        self.mlps = nn.ModuleList(nn.Sequential(nn.Linear(32, 96), nn.GELU(), nn.Linear(96, 32)) for _ in range(2))
        self.head = nn.Linear(32, 5)

    def forward(self, images: torch.Tensor | None = None, ids: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        x = self.embed(ids) if images is None else self.embed(images).flatten(2).transpose(1, 2)
        for i in range(2):
            x = x + self.attentions[i](self.norms[2 * i](x))
            x = x + self.mlps[i](self.norms[2 * i + 1](x))
        return {"logits": self.head(x.mean(1))}


def trained(method: Method, model: nn.Module, given: dict[str, torch.Tensor] | torch.Tensor) -> nn.Module:
    """What `method` leaves of a network whose first output is to become zero."""
    network = method.prepare(model, given)
    optimizer = torch.optim.SGD(method.param_groups(network), lr=0.01, momentum=0.9)
    for _ in range(method.steps):
        output = network(**given) if isinstance(given, dict) else network(given)
        next(iter(output.values())).square().mean().backward()
        method.after_backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(optimizer)
    return method.finish()


@pytest.mark.parametrize("name", ["uniform", "random", "magnitude", "slimming", "depgraph", "one_cycle", "hesso"])
@pytest.mark.parametrize("of_tokens", [False, True])
def test_half_of_a_transformer_goes_as_heads_and_widths(name: str, of_tokens: bool) -> None:
    torch.manual_seed(0)
    model = Transformer(of_tokens=of_tokens)
    given = {"ids": torch.randint(0, 20, (4, 9))} if of_tokens else {"images": torch.randn(4, 3, 16, 16)}
    dense = count_macs(model, given)
    method = registry()[name](keep=0.5, steps=6, tolerance=0.05)
    if name == "slimming":
        with pytest.raises(Skip, match="followed by a batch norm with a scale"):
            method.prepare(model, given)
        return
    result = trained(method, model, given)
    assert 0.45 <= count_macs(result, given) / dense <= 0.5
    assert method.masked_max_abs_diff < 1e-5
    heads = [a.num_heads for a in result.attentions]
    widths = [m[0].out_features for m in result.mlps]
    assert sum(widths) < 2 * 96
    assert sum(heads) < 8 or name in ("depgraph", "hesso")  # to which they are worth more than any width


@pytest.mark.parametrize("name", ["uniform", "random", "magnitude", "slimming", "depgraph", "one_cycle", "hesso"])
@pytest.mark.parametrize("kind", ["generator", "ids"])
def test_networks_that_are_no_convolutional_classifiers(name: str, kind: str) -> None:
    torch.manual_seed(0)
    model, inputs = (Generator(), torch.randn(4, 6)) if kind == "generator" else (Perceptron(), None)
    given = inputs if inputs is not None else {"ids": torch.randint(0, 20, (4, 7)), "mask": torch.ones(4, 7)}
    dense = count_macs(model, given)
    method = registry()[name](keep=0.7, steps=8, tolerance=0.1)
    if name == "slimming" and kind == "ids":
        with pytest.raises(Skip, match="followed by a batch norm with a scale"):
            method.prepare(model, given)
        return
    result = trained(method, model, given)
    assert 0.6 <= count_macs(result, given) / dense <= 0.7
    assert method.masked_max_abs_diff < 1e-4


def test_dynamic_says_what_it_needs() -> None:
    with pytest.raises(Skip, match="needs a network that takes one tensor"):
        registry()["dynamic"](keep=0.5, steps=10).prepare(Perceptron(), {"ids": torch.randint(0, 20, (4, 7))})
    with pytest.raises(Skip, match="returns one tensor; this one returns a dict"):
        registry()["dynamic"](keep=0.5, steps=10).prepare(Generator(), torch.randn(4, 6))
