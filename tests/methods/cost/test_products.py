"""The cost of a choice is what the network without the rest executes: with attention, transposed convolutions, RNNs."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from greenprune.methods import count_macs, count_params
from greenprune.methods.cost.costs import MacCost, ParamCost
from greenprune.methods.structure.coupling import find_couplings
from greenprune.methods.structure.surgery import masked, remove
from greenprune.methods.structure.trace import trace
from torch import Tensor, nn

WIDTH = 24


class Attention(nn.Module):
    """Queries, keys and values, with fewer heads of keys than of queries where `key_heads` says so."""

    def __init__(self, *, fused: bool, heads: int = 4, key_heads: int = 4) -> None:
        super().__init__()
        self.q, self.out = nn.Linear(WIDTH, 24), nn.Linear(24, WIDTH)
        self.k, self.v = (nn.Linear(WIDTH, 24 // heads * key_heads) for _ in range(2))
        self.fused, self.heads, self.key_heads = fused, heads, key_heads

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            y.unflatten(-1, (n, -1)).transpose(1, 2)
            for y, n in ((self.q(x), self.heads), (self.k(x), self.key_heads), (self.v(x), self.key_heads))
        )
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, enable_gqa=self.key_heads != self.heads)
        else:
            y = (q @ k.transpose(-1, -2) * 0.3).softmax(-1) @ v
        return self.out(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention
        self.norm, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 40), nn.Linear(40, WIDTH)
        self.scale = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale * self.attention(self.norm(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Multihead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.MultiheadAttention(WIDTH, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x, x, x, need_weights=False)[0]


class ViT(nn.Module):
    def __init__(self, *attention: nn.Module) -> None:
        super().__init__()
        self.patches, self.places = nn.Conv2d(3, WIDTH, 4, 4), nn.Parameter(torch.randn(1, 16, WIDTH) * 0.1)
        self.blocks = nn.Sequential(*(Block(a) for a in attention))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.places
        return self.head(self.norm(self.blocks(x)).mean(1))


class Mixer(nn.Module):
    """The layers that mix tokens work along the channels one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, WIDTH, 4, 4), nn.Linear(WIDTH, 7)
        self.up, self.down = nn.Linear(16, 20), nn.Linear(20, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2)
        return self.head((x + self.down(F.gelu(self.up(x)))).mean(2))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 16, 3, 1, 1), nn.Conv2d(16, 24, 3, 2, 1), nn.Conv2d(32, 16, 3, 1, 1)
        self.na, self.nb, self.nc = nn.GroupNorm(4, 16), nn.GroupNorm(8, 24), nn.GroupNorm(4, 16)
        self.up, self.last = nn.ConvTranspose2d(24, 16, 2, 2), nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.na(self.a(x)))
        y = self.up(F.relu(self.nb(self.b(a))))
        return self.last(F.relu(self.nc(self.c(torch.cat([a, y], 1)))))


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3 * 16 * 16, 32 * 4 * 4)
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(32, 24, 4, 2, 1), nn.BatchNorm2d(24), nn.ReLU(),
            nn.ConvTranspose2d(24, 16, 4, 2, 1, groups=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 3, 3, 1, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.first(x.flatten(1)).unflatten(1, (32, 4, 4)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 16, 4, 4), nn.BatchNorm2d(16), nn.Conv2d(16, 12, 1)
        self.rnn, self.last = nn.LSTM(12, 8, batch_first=True), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.rnn(self.b(F.relu(self.norm(self.a(x)))).flatten(2).transpose(1, 2))[0][:, -1])


NETWORKS = {
    "ViT": lambda: ViT(Attention(fused=True), Attention(fused=False)),
    "ViT with MultiheadAttention": lambda: ViT(Multihead()),
    "grouped queries": lambda: ViT(Attention(fused=True, key_heads=2)),
    "mixer": Mixer,
    "U-Net": UNet,
    "generator": Generator,
    "LSTM": Recurrent,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_predicted_is_counted_on_what_is_left(name: str) -> None:
    torch.manual_seed(0)
    model, x = NETWORKS[name]().eval(), torch.randn(2, 3, 16, 16)
    structure = trace(model, x)
    assert structure.groups
    costs = [(MacCost(structure), lambda m: count_macs(m, x)), (ParamCost(structure, model), count_params)]
    for cost, counted in costs:
        assert cost.reference == counted(model)
    for seed in range(4):
        keep = torch.rand(structure.units, generator=torch.Generator().manual_seed(seed)) > 0.4
        keep[[group.start for group in structure.groups]] = True
        if seed % 2:
            keep[~structure.channel_units] = True
        with masked(model, structure, keep):
            assert count_macs(model, x) == costs[0][0].reference, "what is masked is executed all the same"
        small = remove(copy.deepcopy(model), structure, keep)
        for cost, counted in costs:
            assert float(cost(keep.float())) * cost.reference == pytest.approx(counted(small), rel=1e-6)


def test_products_go_with_the_branch_they_lie_in() -> None:
    torch.manual_seed(0)
    model, x = NETWORKS["ViT"]().eval(), torch.randn(2, 3, 16, 16)
    structure = trace(model, x)
    names = {b.unit: b.end for b in structure.branches}
    attention = {unit: end for unit, end in names.items() if "attention" in end}
    assert sorted(attention.values()) == ["blocks.0.attention.out", "blocks.1.attention.out"]
    assert len(structure.products) == 4
    for product in structure.products:
        assert [names[u] for u in product.branches] == [f"{product.name}.out"]
    keep = torch.ones(structure.units)
    keep[next(iter(attention))] = 0.0
    gone = remove(copy.deepcopy(model), structure, keep.bool())
    cost = MacCost(structure)
    assert float(cost(keep)) * cost.reference == pytest.approx(count_macs(gone, x), rel=1e-6)


def test_what_cannot_shrink_counts_as_a_constant() -> None:
    structure = trace(Recurrent().eval(), torch.randn(2, 3, 16, 16))
    (rnn,) = structure.products
    assert (rnn.name, rnn.sides) == ("rnn", ())
    closed = torch.zeros(structure.units)
    assert float(MacCost(structure)(closed)) * structure.macs >= rnn.macs > 0


def test_the_channels_of_queries_and_values_are_the_sides_of_attention() -> None:
    """Of both products, whichever way they are written: what is open of them is what is open of the heads."""
    for fused in (True, False):
        model = ViT(Attention(fused=fused)).eval()
        found = find_couplings(model, (torch.randn(2, 3, 16, 16),), {})
        assert found.failure is None
        products = found.products
        made = [p for p in products.made if p.layer is None]
        assert sum(p.macs for p in made) == 2 * 2 * 4 * 16 * 16 * 6
        assert [len(p.sides) for p in made] == [1, 1]
        (query,), (value,) = (p.sides for p in made)
        assert len(query) == len(value) == 4  # a head goes as a whole
        assert not set(query.tolist()) & {0}


def test_heads_with_the_same_label_in_both_operands_count_once() -> None:
    """Channel attention: the width is on both sides of the first product."""

    class Channels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.last = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            scores = self.q(x).transpose(1, 2) @ self.k(x)  # (B, 12, 12)
            return self.last((scores @ self.q(x).transpose(1, 2)).mean(2))

    products = find_couplings(Channels().eval(), (torch.randn(2, 5, 8),), {}).products
    made = [p for p in products.made if p.layer is None]
    assert [p.macs for p in made] == [2 * 12 * 12 * 5] * 2
    assert [sorted(len(s) for s in p.sides) for p in made] == [[12, 12]] * 2
