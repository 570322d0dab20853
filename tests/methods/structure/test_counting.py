"""One counter for everything: what is executed counts, whichever module or function asks for it."""

from __future__ import annotations

import statistics
import time

import pytest
import torch
import torch.nn.functional as F
from greenprune.bench.models import build
from greenprune.methods import MacMeter, count_macs
from greenprune.methods.structure import meter as meter_module
from greenprune.methods.structure.macs import count
from torch import Tensor, nn

B, N, D = 3, 10, 32


class Function(nn.Module):
    """Layers that `function` uses as it likes."""

    def __init__(self, function, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def rows() -> Tensor:
    return torch.randn(B, N, D)


def attention(net: nn.Module, x: Tensor) -> Tensor:
    q, k, v = net.qkv(x).view(len(x), N, 3, 4, -1).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(len(x), N, -1)


def grouped(net: nn.Module, x: Tensor) -> Tensor:
    q = net.q(x).view(len(x), N, 4, 8).transpose(1, 2)
    k, v = (layer(x).view(len(x), N, 2, 8).transpose(1, 2) for layer in (net.k, net.v))
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


PRODUCTS = 2 * 4 * N * N * 8  # of four heads of width 8

CASES = {
    "scaled dot product": (lambda: Function(attention, qkv=nn.Linear(D, 3 * D)), N * D * 3 * D + PRODUCTS),
    "grouped queries": (
        lambda: Function(grouped, q=nn.Linear(D, D), k=nn.Linear(D, 16), v=nn.Linear(D, 16)),
        N * D * (D + 32) + PRODUCTS,
    ),
    "MultiheadAttention": (
        lambda: Function(lambda net, x: net.a(x, x, x)[0], a=nn.MultiheadAttention(D, 4, batch_first=True)),
        N * D * 4 * D + PRODUCTS,
    ),
    "encoder layer": (
        lambda: nn.TransformerEncoderLayer(D, 4, 48, batch_first=True),
        N * D * 4 * D + PRODUCTS + 2 * N * D * 48,
    ),
    "einsum": (lambda: Function(lambda net, x: torch.einsum("bnc,bmc->bnm", x, x)), N * N * D),
    "matmul": (lambda: Function(lambda net, x: x @ x.transpose(1, 2) @ x), 2 * N * N * D),
    "a layer's weight in a function": (
        lambda: Function(lambda net, x: F.linear(x, net.a.weight), a=nn.Linear(D, 7)),
        N * D * 7,
    ),
    "LSTM": (
        lambda: Function(lambda net, x: net.r(x)[0], r=nn.LSTM(D, 6, 2, bidirectional=True, batch_first=True)),
        N * 2 * 4 * 6 * (D + 6 + 12 + 6),
    ),
    "GRU": (lambda: Function(lambda net, x: net.r(x)[0], r=nn.GRU(D, 6, batch_first=True)), N * 3 * 6 * (D + 6)),
    "RNN cell": (lambda: Function(lambda net, x: net.r(x[:, 0]), r=nn.RNNCell(D, 6)), 6 * (D + 6)),
    "transposed convolution": (
        lambda: Function(lambda net, x: net.u(x.transpose(1, 2)), u=nn.ConvTranspose1d(D, 6, 4, stride=2)),
        N * D * 6 * 4,
    ),
    "grouped convolution by function": (
        lambda: Function(
            lambda net, x: F.conv1d(x.transpose(1, 2), net.c.weight, padding=1, groups=4),
            c=nn.Conv1d(D, 8, 3, padding=1, groups=4),
        ),
        N * 8 * D // 4 * 3,
    ),
    "Bilinear": (lambda: Function(lambda net, x: net.b(x, x), b=nn.Bilinear(D, D, 5)), N * 5 * D * D),
}


@pytest.mark.parametrize("case", CASES)
def test_every_product_counts_in_every_way_of_counting(case: str) -> None:
    make, expected = CASES[case]
    net, x = make(), rows()
    assert count_macs(net, x) == expected
    with torch.inference_mode():
        assert count_macs(net, x) == expected
    for mode in (True, False):
        net.train(mode)
        for _ in range(3):  # the first call is looked at, the others are known
            with MacMeter() as meter:
                net(x)
            assert meter.total == B * expected
    with MacMeter(exact=True) as meter:
        net(x)
    assert meter.total == B * expected


def test_backward_passes_are_apart() -> None:
    net = CASES["scaled dot product"][0]()
    with MacMeter() as meter:
        net(rows()).sum().backward()
    assert meter.total == B * CASES["scaled dot product"][1]


@pytest.mark.parametrize(("name", "macs"), [("resnet20", 40_813_184), ("torchvision/resnet18", 37_016_576)])
def test_what_consists_of_layers_counts_as_ever(name: str, macs: int) -> None:
    net, x = build(name, 10, seed=0), torch.randn(2, 3, 32, 32)
    counted = count(net, x)
    assert counted.total == sum(counted.layers.values()) == 2 * macs
    assert not counted.uncounted


def test_layers_are_named_whoever_uses_their_weight() -> None:
    net = Function(lambda net, x: F.linear(net.a(x), net.b.weight) @ x, a=nn.Linear(D, D), b=nn.Linear(D, N))
    counted = count(net, rows())
    assert counted.layers == {"a": B * N * D * D, "b": B * N * D * N}
    assert counted.others == {("", "bmm"): B * N * N * D}


def test_what_cannot_be_counted_is_named() -> None:
    class Shift(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.rfft(x).real

    net = nn.Sequential(nn.Linear(D, D), Shift())
    assert list(count(net, rows()).uncounted) == [("_fft_r2c", "1")]
    with MacMeter() as meter:
        net(rows())
    assert list(meter.uncounted) == [("_fft_r2c", "Shift")]
    assert not count(CASES["encoder layer"][0](), rows()).uncounted


def test_an_operation_of_nobody_known_is_named() -> None:
    library = torch.library.Library("greenprune_test", "FRAGMENT")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x * 2, "CPU")
    net = Function(lambda net, x: torch.ops.greenprune_test.twice(x))
    assert list(count(net, rows()).uncounted) == [("greenprune_test::twice", "")]


def test_a_meter_follows_what_becomes_narrower_and_what_is_skipped() -> None:
    """Between two calls with equal inputs: fewer heads, another batch size, a part that is left out."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.skip = nn.Linear(D, 3 * D), False

        def forward(self, x: Tensor) -> Tensor:
            if self.skip:
                return x
            q, k, v = self.qkv(x).view(len(x), N, 3, -1, 8).permute(2, 0, 3, 1, 4)
            return F.scaled_dot_product_attention(q, k, v)

    net = Attention()

    def both(x: Tensor) -> int:
        with MacMeter() as meter:
            net(x)
        with MacMeter(exact=True) as exact:
            net(x)
        assert meter.total == exact.total
        return meter.total

    full = both(rows())
    assert both(rows()) == full
    net.qkv = nn.Linear(D, 3 * 16)
    assert both(rows()) == full // 2
    assert both(rows()[:1]) * B == full // 2
    net.skip = True
    x = rows()
    with MacMeter():  # seen for the first time: it was not skipped so far
        net(x)
    assert both(x) == 0
    net.skip = False
    assert both(x) == full // 2


def test_an_error_inside_leaves_nothing_behind() -> None:
    net = Function(lambda net, x: net.a(x) @ x, a=nn.Linear(D, D))
    with pytest.raises(RuntimeError), MacMeter():
        net(rows())
    with pytest.raises(RuntimeError):
        count_macs(net, rows())
    torch.zeros(2) + 1  # nobody looks on
    good = CASES["matmul"][0]()
    with MacMeter() as meter:
        good(rows())
    assert meter.total == B * CASES["matmul"][1]


def test_counting_hardly_costs_a_training_step() -> None:
    """Interleaved, with and without: the median of the ratios. Measured 1.00; the bound leaves room for a busy machine."""
    net = nn.Sequential(*(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True) for _ in range(3)))
    x = torch.randn(16, 48, 64)

    def step() -> float:
        started_s = time.process_time()
        net(x).square().mean().backward()
        return time.process_time() - started_s

    def metered() -> float:
        with MacMeter():
            return step()

    metered(), step()
    ratios = [metered() / step() for _ in range(25)]
    assert statistics.median(ratios) < 1.15


def test_no_hook_stays_behind() -> None:
    from torch.nn.modules.module import _has_any_global_hook

    with MacMeter() as meter:
        nn.Linear(3, 4)(torch.zeros(2, 3))
    assert meter.total == 2 * 3 * 4
    assert not _has_any_global_hook()


class Repeated(nn.Module):
    """Multiplies as often as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.w = nn.Linear(D, D), nn.Parameter(torch.randn(D, D))

    def forward(self, x: Tensor, n: int = 1, scale: float = 1.0) -> Tensor:
        x = self.a(x)
        for _ in range(n):
            x = scale * (x @ self.w)
        return x


@pytest.mark.parametrize("named", [False, True])
def test_a_meter_tells_plain_arguments_apart(named: bool) -> None:
    net, once = Repeated(), B * N * D * D
    for _ in range(2):
        for n in (1, 3, 2):
            with MacMeter() as meter:
                net(rows(), n=n) if named else net(rows(), n)
            assert meter.total == (1 + n) * once


@pytest.mark.parametrize("matters", [False, True])
def test_a_meter_does_not_learn_every_value_of_an_argument(matters: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter_module, "MAX_VALUES", 4)
    net, once = Repeated(), B * N * D * D
    for i in range(12):
        n = 1 + i % 3 if matters else 2
        with MacMeter() as meter:
            net(rows(), n, scale=1.0 + i)
        assert meter.total == (1 + n) * once
    known = meter_module._known[net]
    assert known.always is matters
    assert len(known.macs) <= 4
