"""Which blocks a shallower network keeps, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from greenprune.bench.models import build
from greenprune.methods import MacMeter, Skip, calibrate, count_macs, count_params, find
from greenprune.methods.budget.reach import CoarseBudget
from greenprune.methods.cost.measured_cost import CostTable, TableCost
from greenprune.methods.structure.blocks import find_blocks, order_of_removal
from torch import Tensor, nn

from tests.methods.networks import OneLinear, PlainConvs, SmallResidual, images, network
from tests.methods.traces import trace


def macs_of(run: Any) -> float:
    with MacMeter() as meter:
        run()
    return meter.total * 1e-9 + 1e-15


@pytest.fixture(scope="module")
def table() -> CostTable:
    return calibrate(build("resnet20", 10), images(1, 16), batch_size=2, measure=macs_of, rounds=1, steps=2)


def cut(model: nn.Module, x: Any, **given: Any) -> tuple[nn.Module, Any]:
    method_class = find("shallow")
    options = method_class.Options(**given.pop("options", {}))
    method = method_class(options, **{"keep": 0.5, "steps": 1, **given})
    return method.prepare(model, x), method


def left(result: nn.Module) -> set[str]:
    """The blocks of a ResNet that still have a second convolution."""
    return {name.removesuffix(".conv2") for name, _ in result.named_modules() if name.endswith(".conv2")}


def family(*kept: set[int]) -> set[str]:
    """The blocks of the stages by their numbers."""
    return {f"layer{stage}.{i}" for stage, which in enumerate(kept, start=1) for i in which}


@pytest.mark.parametrize(
    ("depth", "gone", "remaining"),
    [
        (20, 3, {0, 1}),  # ResNet-14
        (20, 6, {0}),  # ResNet-8
        (56, 12, {0, 1, 3, 5, 7}),  # ResNet-32: every other
        (56, 24, {0}),
    ],
)
def test_a_resnet_becomes_a_shallower_one_of_its_family(depth: int, gone: int, remaining: set[int]) -> None:
    blocks = find_blocks(trace(build(f"resnet{depth}", 10), images(1, 16)))
    assert [b.stays for b in blocks] == [b.name.endswith(".0") for b in blocks]
    order = order_of_removal(blocks)
    assert {b.name for b in blocks} - {b.name for b in order[:gone]} == family(remaining, remaining, remaining)
    for i in range(len(order)):  # no stage gives two more than another
        counts = [sum(b.stage == stage for b in order[:i]) for stage in range(3)]
        assert max(counts) - min(counts) <= 1


def test_the_last_block_is_narrowed_where_whole_ones_do_not_fit() -> None:
    x = images(2, 32)
    dense = network()
    result, method = cut(network(), x)
    assert left(result) == family({0}, {0, 1}, {0, 1})
    assert 0.48 <= count_macs(result, x) / count_macs(dense, x) <= 0.5
    assert method.nearest is None
    widths = {n: m.out_channels for n, m in result.named_modules() if isinstance(m, nn.Conv2d)}
    full = {n: m.out_channels for n, m in dense.named_modules() if isinstance(m, nn.Conv2d)}
    assert {n for n, width in widths.items() if width < full[n]} == {"layer2.1.conv1"}


@pytest.mark.parametrize("cost", ["macs", "params", "latency", "energy"])
@pytest.mark.parametrize("keep", [0.2, 0.65])
def test_a_budget_is_met_whatever_it_is_stated_in(table: CostTable, cost: str, keep: float) -> None:
    x = images(2, 16)
    own = table.model_copy(update={"kind": cost}) if cost in ("latency", "energy") else None
    result, method = cut(build("resnet20", 10), x, keep=keep, cost=cost, table=own)
    dense = build("resnet20", 10)
    if own is not None:
        again = trace(result, x)
        reached = float(TableCost(again, own)(torch.ones(again.units)))
    else:
        reached = count_macs(result, x) / count_macs(dense, x) if cost == "macs" else count_params(result) / 272_474
    least = keep - 0.02 if own is None else 0.9 * keep
    assert least <= reached <= keep
    assert reached == pytest.approx(method.predicted_cost, rel=1e-4)
    assert family({0}, {0}, {0}) <= left(result)
    assert method.masked_max_abs_diff <= 1e-4


def test_what_stays_begins_with_given_weights() -> None:
    given, x = network(), images(2, 16)
    with torch.no_grad():
        given.get_submodule("layer2.1.conv1").weight[:16] *= 0.01
    weights = {n: t.clone() for n, t in given.state_dict().items()}
    result, method = cut(given, x, options={"start": "kept"})
    for name in ("layer1.0.conv2.weight", "layer3.1.conv1.weight", "layer2.1.bn2.running_mean"):
        assert torch.equal(result.state_dict()[name], weights[name])
    kept = result.get_submodule("layer2.1.conv1").weight
    strong = weights["layer2.1.conv1.weight"][16:]
    assert 16 < len(kept) < 32
    assert torch.equal(kept[-16:], strong)  # those that are gone are among the weakest
    shallow = find("shallow")
    assert shallow.starts_anew(shallow.Options())
    assert not shallow.starts_anew(method.options)


class Attending(nn.Module):
    """A block of a transformer: two branches, which go together."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(16), nn.LayerNorm(16)])
        self.mix = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16))
        self.mlp = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mix(self.norms[0](x))
        return x + self.mlp(self.norms[1](x))


def test_the_branches_of_one_block_go_together() -> None:
    def stack() -> nn.Module:
        return nn.Sequential(nn.Linear(8, 16), *(Attending() for _ in range(8)), nn.Linear(16, 10))

    x = torch.randn(2, 5, 8)
    blocks = find_blocks(trace(stack(), x))
    assert [(b.name, len(b.units), b.stage, b.stays) for b in blocks] == [(f"{i}", 2, 0, i == 1) for i in range(1, 9)]
    assert [b.name for b in order_of_removal(blocks)][:4] == ["8", "6", "4", "2"]
    result, method = cut(stack(), x, keep=0.45)
    assert 0.43 <= count_macs(result, x) / count_macs(stack(), x) <= 0.45
    assert method.masked_max_abs_diff <= 1e-5


def test_a_vision_transformer_loses_blocks() -> None:
    x = images(2, 32)
    dense = build("vit_tiny_cifar", 10)
    result, method = cut(build("vit_tiny_cifar", 10), x)
    assert 0.48 <= count_macs(result, x) / count_macs(dense, x) <= 0.5
    assert method.masked_max_abs_diff <= 1e-4


def test_networks_without_blocks_to_spare_are_refused() -> None:
    for model in (PlainConvs(), OneLinear(), nn.Sequential(nn.Linear(8, 16), Attending(), nn.Linear(16, 10))):
        x = torch.randn(2, 5, 8) if isinstance(model, nn.Sequential) else images(2, 16)
        with pytest.raises(Skip, match="no block of this network can be removed: it has no residual blocks besides"):
            cut(model, x)


def test_the_nearest_is_said_where_steps_are_coarse() -> None:
    with pytest.warns(CoarseBudget, match=r"keep = 0.9 cannot be met within 0.02"):
        result, method = cut(SmallResidual(), images(2, 16), keep=0.9, round_to=64)
    reached = count_macs(result, images(2, 16)) / count_macs(SmallResidual(), images(2, 16))
    assert method.nearest.below == pytest.approx(reached)
    assert reached < 0.8
    assert method.nearest.above > 0.9
