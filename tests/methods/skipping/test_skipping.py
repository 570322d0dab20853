"""`dynamic`: skipped work is not executed, the result is that of masking, and the cost is that of what ran."""

from __future__ import annotations

import pytest
import torch
from greenprune.bench.inference.cost import sample_macs
from greenprune.methods import MacMeter, Skip, count_macs
from greenprune.methods.dynamic import Dynamic, refuse_what_cannot_be_gathered, skipping_difference
from greenprune.methods.options.dynamic import DynamicOptions
from greenprune.methods.skipping.layers import BlockConv, Skipper, block_bounds
from greenprune.methods.skipping.skip import SkippingCost, SkippingNetwork, find_gates, install
from torch import Tensor, nn

from tests.methods.contract import run
from tests.methods.networks import images, network
from tests.methods.traces import trace


def by_brightness(key: str, logits: Tensor) -> Tensor:
    """Gates that differ from image to image and from gate to gate, the same ones however many images came that far."""
    index = torch.arange(logits.shape[1]) + len(key)
    return ((logits * 1e4).round().long() + index).remainder(3).gt(0).to(logits.dtype)


def gated(model: str = "resnet20", *, layers: bool = True, channels: bool = True, size: int = 16):
    dense = network(model).double().eval()
    structure = trace(dense, images(2, size).double())
    skipper = Skipper()
    layout = find_gates(dense, structure, layers=layers, channels=channels, blocks=4, hidden=8)
    torch.manual_seed(0)
    heads = install(dense, layout, skipper, torch.device("cpu"))
    skipper.forced = by_brightness
    return SkippingNetwork(dense, layout, skipper).eval(), SkippingCost(structure, layout, heads), structure


@pytest.mark.parametrize(("layers", "channels"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("model", ["resnet20", "torchvision/resnet18", "torchvision/mobilenet_v2"])
@torch.no_grad()
def test_skipping_equals_masking(model: str, layers: bool, channels: bool) -> None:
    skipping, _, _ = gated(model, layers=layers, channels=channels, size=32)
    x = images(6, 32).double()
    before = skipping(x)
    assert skipping_difference(skipping, x) <= 1e-9 * float(before.abs().max())
    skipping.skipper.forced = lambda key, logits: torch.ones_like(logits)
    assert (skipping(x) - before).abs().max() > 1e-6  # something was closed


@torch.no_grad()
def test_a_branch_runs_on_the_images_that_need_it_alone() -> None:
    skipping, _, _ = gated(channels=False)
    skipping.skipper.forced = lambda key, logits: (torch.arange(len(logits)) < 2).to(logits.dtype)[:, None]
    seen = []
    conv = skipping.network.layer2[1].conv2
    conv.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    skipping(images(5, 16).double())
    assert seen == [2]


@torch.no_grad()
def test_the_cost_of_an_image_is_what_it_executes() -> None:
    """Predicted from the gates, counted by the meter image by image, and counted for the batch: all the same."""
    skipping, cost, structure = gated()
    x = images(6, 16).double()
    skipping.skipper.skip = False
    skipping(x)
    predicted = cost(skipping.skipper.gates)
    skipping.skipper.skip = True
    counted = []
    for image in x:
        with MacMeter() as meter:
            skipping(image[None])
        counted.append(meter.total / structure.macs)
    assert torch.allclose(predicted.double(), torch.tensor(counted).double(), atol=1e-6)
    with MacMeter() as meter:
        skipping(x)
    assert meter.total / structure.macs == pytest.approx(sum(counted), abs=1e-6)
    assert len(set(counted)) > 1
    sampled = sample_macs(skipping, [image[None] for image in x], structure.macs)
    assert (sampled.images, sum(sampled.counts)) == (6, 6)
    assert sampled.mean == pytest.approx(sum(counted) / 6)
    assert (sampled.low, sampled.high) == (min(counted), max(counted))


@torch.no_grad()
def test_of_unequal_blocks_each_costs_its_channels() -> None:
    """6 channels in 4 blocks: of 2, 1, 1 and 2."""
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 10)).eval()
    structure, skipper = trace(dense, images(2, 8)), Skipper()
    layout = find_gates(dense, structure, layers=False, channels=True, blocks=4, hidden=4)
    cost = SkippingCost(structure, layout, install(dense, layout, skipper, torch.device("cpu")))
    for block, (low, high) in enumerate(block_bounds(6, 4)):
        gates = torch.eye(4)[block : block + 1]
        skipper.forced = lambda key, logits, gates=gates: gates.to(logits.dtype)
        with MacMeter() as meter:
            SkippingNetwork(dense, layout, skipper).eval()(images(1, 8))
        assert float(cost({"channels 0": gates})) == pytest.approx(meter.total / structure.macs, rel=1e-6)
        assert float(cost({"channels 0": gates})) - cost.floor() == pytest.approx(
            (high - low) / 6 * structure.layers["0"].macs / structure.macs, rel=1e-4
        )


@torch.no_grad()
def test_with_all_gates_closed_the_floor_remains_and_it_includes_the_heads() -> None:
    skipping, cost, structure = gated()
    skipping.skipper.forced = lambda key, logits: torch.zeros_like(logits)
    with MacMeter() as meter:
        skipping(images(1, 16).double())
    assert meter.total / structure.macs == pytest.approx(cost.floor())
    outside = sum(layer.macs for layer in structure.layers.values() if not layer.branches)
    assert cost.floor() > outside / structure.macs


def test_the_mean_cost_lies_on_the_budget_of_the_last_batches() -> None:
    _, method = run("dynamic", network(), 0.5, steps=30, batch=16)
    assert 0.48 <= method.kept_cost() <= 0.5
    history = method.history()
    assert history["mean_cost"][-1] < history["mean_cost"][0]
    assert history["calibrated_mean_cost"] == pytest.approx(method.kept_cost(), abs=1e-4)


def test_channels_are_gated_only_where_layers_do_not_suffice() -> None:
    def blocks(options: DynamicOptions, keep: float) -> int:
        method = Dynamic(options, keep=keep, steps=10)
        trained = method.prepare(network(), images(2, 16))
        return sum(isinstance(m, BlockConv) for m in trained.modules())

    assert blocks(DynamicOptions(), 0.5) == 0
    assert blocks(DynamicOptions(layers=False), 0.7) == 9
    assert blocks(DynamicOptions(channels="always"), 0.5) == 9


def test_gates_train() -> None:
    """The task's gradient reaches every head."""
    method = Dynamic(DynamicOptions(open_share=0.0, channels="always"), keep=0.5, steps=10)
    trained = method.prepare(network(), images(2, 16)).train()
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.0)
    for _ in range(2):  # the first step only learns the gradients' scale
        optimizer.zero_grad()
        trained(images(8, 16)).square().mean().backward()
        method.after_step(optimizer)
    assert all(head.last.bias.grad.abs().sum() > 0 for head in method._heads)


class LooksAround(nn.Module):
    """A branch that needs the whole batch twice: its second input comes from outside of its first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.last = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last((x + self.b(self.a(x) * x)).mean((2, 3)))


def test_a_branch_that_cannot_run_on_a_part_of_the_batch_is_refused() -> None:
    skipper = Skipper()
    model = LooksAround()
    structure = trace(model, images(2, 16))
    layout = find_gates(model, structure, layers=True, channels=False, blocks=2, hidden=4)
    assert layout.branches  # it looks like any other residual branch
    install(model, layout, skipper, torch.device("cpu"))
    with pytest.raises(Skip, match="cannot run on a part of the batch"):
        refuse_what_cannot_be_gathered(SkippingNetwork(model, layout, skipper), images(4, 16))


@pytest.mark.parametrize("channels", [4, 7, 64])
def test_blocks_cover_all_channels(channels: int) -> None:
    bounds = block_bounds(channels, 4)
    assert [c for low, high in bounds for c in range(low, high)] == list(range(channels))
    assert max(h - low for low, h in bounds) - min(h - low for low, h in bounds) <= 1


def test_the_network_counts_as_it_runs() -> None:
    result, _ = run("dynamic", network(), 0.5)
    x = images(2, 16)
    assert count_macs(result, x) < count_macs(network(), x)
