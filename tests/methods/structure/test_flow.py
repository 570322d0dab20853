"""Channels followed through operations: what is one unit, what is fixed and why, whatever the code looks like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from greenprune.methods.structure.flow.elements import Elements
from greenprune.methods.structure.flow.recorder import Recorder, record
from greenprune.methods.structure.flow.rules import RULES
from torch import Tensor, nn


class Net(nn.Module):
    def __init__(self, run: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Any:
        return self.run(self, *args, **kwargs)


def followed(run: Callable[..., Any], *inputs: Tensor, **layers: nn.Module) -> Recorder:
    return record(Net(run, **layers).eval(), inputs, {}, RULES)


def units(seen: Recorder, name: str, dim: int = 0) -> list[list[int]]:
    """Entries of a parameter that go together, fixed ones left out."""
    roots = seen.elements.find(seen.parameters[name][dim])
    return [np.flatnonzero(roots == root).tolist() for root in dict.fromkeys(roots.tolist()) if root]


def why(seen: Recorder, name: str, dim: int = 0) -> str:
    return seen.elements.reason(seen.parameters[name][dim]) or ""


def heads_packed(m: Any, x: Tensor) -> Tensor:
    b, n, _ = x.shape
    q, k, v = m.qkv(x).reshape(b, n, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
    weights = (q @ k.transpose(-2, -1) * 0.3).softmax(-1)
    return m.out((weights @ v).transpose(1, 2).reshape(b, n, 32))


def heads_by_function(m: Any, x: Tensor) -> Tensor:
    b, n, _ = x.shape
    q, k, v = (t.view(b, n, 4, 8).transpose(1, 2) for t in m.qkv(x).chunk(3, -1))
    return m.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("run", [heads_packed, heads_by_function])
def test_packed_projections_go_by_whole_heads(run: Callable[..., Tensor]) -> None:
    seen = followed(run, torch.randn(2, 5, 16), qkv=nn.Linear(16, 96), out=nn.Linear(32, 16))
    assert units(seen, "qkv.weight") == [
        [*range(h * 8, h * 8 + 8), *range(32 + h * 8, 40 + h * 8), *range(64 + h * 8, 72 + h * 8)] for h in range(4)
    ]
    assert units(seen, "out.weight", 1) == [list(range(h * 8, h * 8 + 8)) for h in range(4)]


@pytest.mark.parametrize("inside", [True, False], ids=["in the function", "repeated before"])
def test_grouped_queries_go_with_the_keys_that_they_share(inside: bool) -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        q = m.q(x).view(2, 5, 4, 8).transpose(1, 2)
        k, v = (layer(x).view(2, 5, 2, 8).transpose(1, 2) for layer in (m.k, m.v))
        if not inside:
            k, v = (t[:, :, None].expand(2, 2, 2, 5, 8).reshape(2, 4, 5, 8) for t in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=inside)
        return m.out(y.transpose(1, 2).reshape(2, 5, 32))

    layers = {"q": nn.Linear(16, 32), "k": nn.Linear(16, 16), "v": nn.Linear(16, 16), "out": nn.Linear(32, 16)}
    seen = followed(run, torch.randn(2, 5, 16), **layers)
    assert units(seen, "q.weight") == [list(range(16)), list(range(16, 32))]
    assert units(seen, "k.weight") == [list(range(8)), list(range(8, 16))]


def test_a_rotation_between_keeps_heads() -> None:
    def turned(x: Tensor, angle: Tensor) -> Tensor:
        return x * angle.cos() + torch.cat([-x[..., 4:], x[..., :4]], -1) * angle.sin()

    def run(m: Any, x: Tensor) -> Tensor:
        angle = torch.arange(5.0)[:, None] * torch.ones(8)
        q, k, v = (layer(x).view(2, 5, 4, 8).transpose(1, 2) for layer in (m.q, m.k, m.v))
        y = F.scaled_dot_product_attention(turned(q, angle), turned(k, angle), v)
        return m.out(y.transpose(1, 2).reshape(2, 5, 32))

    seen = followed(
        run, torch.randn(2, 5, 16), q=nn.Linear(16, 32), k=nn.Linear(16, 32), v=nn.Linear(16, 32), out=nn.Linear(32, 16)
    )
    assert [len(u) for u in units(seen, "q.weight")] == [8] * 4


def test_bias_tables_lose_their_column_of_a_head() -> None:
    class Biased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
            self.table = nn.Parameter(torch.randn(9, 2))
            self.register_buffer("places", torch.randint(0, 9, (5, 5)))

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).reshape(2, 5, 3, 2, 8).permute(2, 0, 3, 1, 4)
            bias = self.table[self.places.view(-1)].view(5, 5, 2).permute(2, 0, 1)
            weights = (q @ k.mT + bias).softmax(-1)
            return self.out((weights @ v).transpose(1, 2).reshape(2, 5, 16))

    seen = record(Biased().eval(), (torch.randn(2, 5, 16),), {}, RULES)
    assert units(seen, "table", 1) == [[0], [1]]
    assert units(seen, "table", 0) == []
    roots = [set(seen.elements.find(seen.parameters[n][d]).tolist()) for n, d in (("table", 1), ("qkv.weight", 0))]
    assert roots[0] == roots[1]


def test_halves_that_gate_each_other_go_together() -> None:
    for run in (
        lambda m, x: m.b(F.glu(m.a(x), 1)),
        lambda m, x: m.b(torch.mul(*m.a(x).chunk(2, 1))),
        lambda m, x: m.b(m.a(x)[:, :4] * m.a(x)[:, 4:]),
    ):
        seen = followed(run, torch.randn(2, 3, 6, 6), a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(4, 2, 1))
        assert units(seen, "a.weight") == [[i, i + 4] for i in range(4)]


def test_pixels_are_shuffled_by_blocks() -> None:
    shuffle = nn.PixelShuffle(2)
    seen = followed(
        lambda m, x: m.b(shuffle(m.a(x))), torch.randn(2, 3, 6, 6), a=nn.Conv2d(3, 16, 1), b=nn.Conv2d(4, 2, 1)
    )
    assert units(seen, "a.weight") == [list(range(i, i + 4)) for i in range(0, 16, 4)]


@pytest.mark.parametrize("by_hand", [True, False])
def test_a_channel_shuffle_keeps_its_groups_equal(by_hand: bool) -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.a(x)
        if by_hand:
            return m.b(x.view(2, 2, 4, 6, 6).transpose(1, 2).reshape(2, 8, 6, 6))
        return m.b(torch.channel_shuffle(x, 2))

    seen = followed(run, torch.randn(2, 3, 6, 6), a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(8, 2, 1))
    assert units(seen, "a.weight") == [[i, i + 4] for i in range(4)]
    assert units(seen, "b.weight", 1) == [[i, i + 1] for i in range(0, 8, 2)]


def test_a_mask_of_one_channel_does_not_tie_the_others_together() -> None:
    seen = followed(
        lambda m, x: m.b((y := m.a(x)) * torch.sigmoid(m.mask(y))),
        torch.randn(2, 3, 6, 6), a=nn.Conv2d(3, 8, 1), mask=nn.Conv2d(8, 1, 3, padding=1), b=nn.Conv2d(8, 2, 1),
    )  # fmt: skip
    assert units(seen, "a.weight") == [[i] for i in range(8)]
    assert "broadcasts a single channel" in why(seen, "mask.weight")


@pytest.mark.parametrize(
    ("mix", "reason"),
    [
        (lambda x: x * x.mean(1, keepdim=True), "mean is taken over them"),
        (lambda x: x.softmax(1), "softmax mixes them"),
        (lambda x: x.roll(1, 1), "roll mixes them"),
        (lambda x: x + torch.ones(8, 1, 1), "something of a fixed size"),
        (lambda x: torch.fft.fft(x, dim=1).real, "may mix channels"),
        (lambda x: x[:, :5].repeat(1, 2, 1, 1)[:, :8], "a slice of a fixed size"),
        (lambda x: torch.linalg.solve(torch.eye(8), x.flatten(2)).view_as(x), ""),
    ],
)
def test_what_mixes_channels_fixes_them_and_no_others(mix: Callable[[Tensor], Tensor], reason: str) -> None:
    seen = followed(
        lambda m, x: m.c(m.b(mix(m.a(x)))),
        torch.randn(2, 3, 6, 6), a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(8, 6, 1), c=nn.Conv2d(6, 2, 1),
    )  # fmt: skip
    assert reason in why(seen, "a.weight") and why(seen, "a.weight")  # noqa: PT018
    assert units(seen, "b.weight") == [[i] for i in range(6)]
    assert why(seen, "c.weight") == "it is the network's output"


def test_a_recurrent_layer_fixes_what_it_reads() -> None:
    seen = followed(
        lambda m, x: m.c(m.b(m.rnn(m.a(x))[0]).relu()),
        torch.randn(2, 5, 3), a=nn.Linear(3, 8), rnn=nn.GRU(8, 6, batch_first=True), b=nn.Linear(6, 4), c=nn.Linear(4, 2),
    )  # fmt: skip
    assert "GRU rnn" in why(seen, "a.weight")
    assert units(seen, "b.weight") == [[i] for i in range(4)]


def test_inputs_and_outputs_of_any_form() -> None:
    def run(m: Any, first: Tensor, second: Tensor) -> dict[str, Any]:
        y = m.a(first) + m.b(second)
        return {"one": m.c(y), "more": [m.d(y), 7]}

    layers = {"a": nn.Linear(3, 8), "b": nn.Linear(5, 8), "c": nn.Linear(8, 2), "d": nn.Linear(8, 4)}
    seen = followed(run, torch.randn(2, 3), torch.randn(2, 5), **layers)
    assert units(seen, "a.weight") == units(seen, "b.weight") == [[i] for i in range(8)]
    assert why(seen, "c.weight") == why(seen, "d.weight") == "it is the network's output"


def test_the_size_of_a_flattened_map_costs_little() -> None:
    layers = {"a": nn.Conv2d(3, 32, 1), "b": nn.Conv2d(3, 16, 1), "head": nn.Linear(48 * 256, 4)}
    seen = followed(
        lambda m, x: m.head(torch.cat([m.a(x).flatten(1), m.b(x).flatten(1)], 1)), torch.randn(2, 3, 16, 16), **layers
    )
    assert len(units(seen, "a.weight")) == 32
    assert [len(u) for u in units(seen, "head.weight", 1)] == [256] * 48
    assert len(seen.elements) < 48 * 256 + 1000  # one for each entry of a parameter, no more


def test_sets_keep_the_reason_of_what_is_fixed() -> None:
    elements = Elements()
    a, b = elements.new(3), elements.new(3)
    elements.union(a, b)
    elements.fix(b[1:2], "because")
    assert elements.is_fixed(a).tolist() == [False, True, False]
    assert elements.reason(a) == "because"
    elements.union(a[:1], a[1:2])  # joined with what is fixed
    assert elements.reason(b[:1]) == "because"
    assert elements.reason(a[2:]) is None
