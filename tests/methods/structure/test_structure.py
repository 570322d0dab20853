import pytest
import torch
from greenprune.bench.models import build
from greenprune.methods.budget.select import BudgetError, floor, select
from greenprune.methods.cost.costs import MacCost
from greenprune.methods.structure.macs import count_macs, count_params
from greenprune.methods.structure.meter import MacMeter
from greenprune.methods.structure.resizing import resize
from greenprune.methods.structure.surgery import evaluate, masked, remove, remove_checked
from greenprune.methods.structure.trace import trace
from greenprune.methods.structure.units import Structure
from torch import nn

from tests.methods import traces
from tests.methods.networks import OneLinear, PlainConvs, images, network

NETWORKS = [
    "resnet20",
    "resnet56",
    "vgg16_bn",
    "torchvision/resnet18",
    "torchvision/resnet50",
    "torchvision/mobilenet_v2",
    "torchvision/efficientnet_b0",
    "torchvision/regnet_y_400mf",
]


def scores(structure: Structure) -> torch.Tensor:
    return torch.rand(structure.units, generator=torch.Generator().manual_seed(3))


def test_macs_of_resnet20_are_the_published_ones():
    assert count_macs(build("resnet20", 10), images()) == 40_813_184


def test_macs_of_a_convolution_and_a_linear_layer_by_hand():
    # 3 -> 8 channels, 3x3, 5x5 output pixels; then 8 -> 2
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    assert count_macs(model, torch.zeros(4, 3, 7, 7)) == 5 * 5 * 8 * 3 * 9 + 16


def test_the_meter_may_count_while_a_network_is_traced():
    network_seen = trace(network(), images(2, 16))
    with MacMeter():
        counted = trace(network(), images(2, 16))
    assert (counted.groups, counted.fixed) == (network_seen.groups, network_seen.fixed)


def test_the_meter_counts_what_is_executed_and_nothing_after_it_is_closed():
    layer = nn.Linear(8, 2)
    with MacMeter() as meter:
        layer(torch.zeros(3, 8))
    layer(torch.zeros(3, 8))
    assert meter.total == 3 * 16


def test_structure_of_resnet20():
    structure = trace(build("resnet20", 10), images())
    groups = {g.name: (g.width, g.producers) for g in structure.groups}
    assert groups["layer1.0.conv1"] == (16, ("layer1.0.conv1",))
    assert groups["conv1"] == (16, ("conv1", "layer1.0.conv2", "layer1.1.conv2", "layer1.2.conv2"))
    assert len(structure.groups) == 9 + 3  # one inside each block, three residual streams
    assert [b.name for b in structure.branches] == [f"layer{s}.{b}" for s in (1, 2, 3) for b in (0, 1, 2)]
    assert structure.branches[3].end == "layer2.0.bn2"
    assert structure.fixed == (("fc", "it is the network's output"),)
    assert structure.macs == 40_813_184


def test_tracing_leaves_the_network_as_it_was():
    model = network().train()
    model.bn1.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    trace(model, images())
    assert model.training
    assert not model.bn1.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("keep", [0.3, 0.5, 0.7])
def test_removed_equals_masked_and_meets_the_budget(name, keep):
    # In double precision, where equal means equal: random norms make the logits of deep networks large.
    model, x = network(name).double(), images(2).double()
    dense_macs, dense_params = count_macs(model, x), count_params(model)
    structure = traces.trace(model, x)  # once for all budgets
    chosen = select(structure, scores(structure), keep, 0.02)
    before = evaluate(model, x)
    model, difference = remove_checked(model, structure, chosen, x)
    assert difference <= 1e-9 * float(before.abs().max())
    assert (evaluate(model, x) - before).abs().max() > 1e-4  # something was really removed
    assert keep - 0.02 <= count_macs(model, x) / dense_macs <= keep
    assert count_macs(model, x) / dense_macs == pytest.approx(float(MacCost(structure)(chosen.float())), abs=1e-5)
    assert count_params(model) < dense_params


def test_masked_really_masks():
    """The oracle itself: masking by hooks equals zeroing the weights by hand."""
    model, x = network(), images()
    structure = trace(model, x)
    keep = torch.ones(structure.units, dtype=torch.bool)
    group = next(g for g in structure.groups if g.name == "layer1.0.conv1")
    keep[group.start + 3] = False
    keep[structure.branches[4].unit] = False
    with masked(model, structure, keep):
        got = evaluate(model, x)
    with torch.no_grad():
        for tensor in (model.layer1[0].bn1.weight, model.layer1[0].bn1.bias):
            tensor[3] = 0
        model.layer2[1].bn2.weight.zero_()
        model.layer2[1].bn2.bias.zero_()
    assert torch.allclose(got, evaluate(model, x), atol=1e-6)


def test_a_removed_branch_leaves_no_trace():
    model, x = network(), images()
    structure = trace(model, x)
    keep = torch.ones(structure.units, dtype=torch.bool)
    keep[structure.branches[1].unit] = False
    remove(model, structure, keep)
    assert [n for n, m in model.layer1[1].named_modules() if isinstance(m, nn.Conv2d)] == []


def test_in_place_activations_after_a_removed_branch_still_train():
    model, x = (
        build("torchvision/resnet18", 10, seed=0),
        images(2),
    )  # torchvision: `out += identity; relu(inplace=True)`
    structure = trace(model, x)
    keep = torch.ones(structure.units, dtype=torch.bool)
    for branch in structure.branches:
        keep[branch.unit] = False
    model = remove(model, structure, keep)
    model(x).sum().backward()
    assert model.conv1.weight.grad is not None


def test_optimizer_state_is_cut_with_the_weights():
    model, x = network(), images()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(x).sum().backward()
    optimizer.step()
    conv = model.layer1[0].conv1
    momentum = optimizer.state[conv.weight]["momentum_buffer"].clone()
    structure = trace(model, x)
    keep = torch.ones(structure.units, dtype=torch.bool)
    group = next(g for g in structure.groups if g.name == "layer1.0.conv1")
    keep[group.start + 2] = False
    keep[structure.branches[8].unit] = False
    model = remove(model, structure, keep, optimizer)
    rows = [i for i in range(16) if i != 2]
    assert torch.equal(optimizer.state[conv.weight]["momentum_buffer"], momentum[rows])
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in model.parameters()}
    assert {id(p) for p in optimizer.state} <= {id(p) for p in model.parameters()}
    optimizer.zero_grad()
    model(x).sum().backward()
    optimizer.step()


def test_memory_format_survives_the_cut():
    model = network().to(memory_format=torch.channels_last)
    structure = trace(model, images())
    model = remove(model, structure, select(structure, scores(structure), 0.5, 0.02))
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len({w.shape for w in weights}) > 8
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)


@pytest.mark.parametrize("name", ["resnet20", "torchvision/mobilenet_v2", "torchvision/resnet18"])
def test_resize_rebuilds_the_pruned_network_from_its_tensors(name):
    model, x = network(name), images()
    structure = trace(model, x)
    model = remove(model, structure, select(structure, scores(structure), 0.4, 0.02))
    again = build(name, 10)
    again = resize(again, trace(again, x), model.state_dict())
    assert torch.equal(evaluate(again, x), evaluate(model, x))
    assert count_macs(again, x) == count_macs(model, x)


def test_resize_refuses_tensors_of_another_network():
    model = build("resnet20", 10)
    with pytest.raises(ValueError, match="do not fit"):
        resize(model, trace(model, images()), build("vgg16_bn", 10).state_dict())


def test_select_keeps_the_highest_scores():
    structure = trace(PlainConvs(), images())
    score = torch.arange(structure.units).float()
    kept = select(structure, score, 0.8, 0.1)
    # One threshold: but for the last unit of a group, everything kept scores higher than everything removed.
    assert score[kept].min() > score[~kept].max()


def test_what_still_fits_comes_back_after_a_whole_layer_closed_last():
    structure = trace(network(), images())
    narrowed = next(g for g in structure.groups if g.name == "layer3.2.conv1")
    branch = next(b for b in structure.branches if b.name == "layer1.2")
    ranked = torch.full((structure.units,), 100.0)
    ranked[narrowed.start : narrowed.start + 20] = torch.arange(20.0)
    ranked[branch.unit] = 50.0
    cost = MacCost(structure)
    budget = float(cost((ranked > 50.0).float())) + 0.015  # 20 channels close, then the layer: more than has to go
    keep = select(structure, ranked, keep=budget, tolerance=0.02)
    assert not keep[branch.unit]
    closed = (~keep[narrowed.units]).sum()
    channel = float(cost.prices()[narrowed.start])
    assert closed == 20 - int(0.015 / channel)
    assert not keep[narrowed.start : narrowed.start + closed].any()  # those of the highest scores came back
    assert budget - channel < float(cost(keep.float())) <= budget


def test_select_never_empties_a_group_of_channels():
    structure = trace(PlainConvs(), images())
    score = torch.arange(structure.units).float()  # the first group has all the lowest
    kept = select(structure, score, 0.1, 0.05)
    assert all(kept[g.units].any() for g in structure.groups)


def test_a_budget_below_the_floor_says_what_the_floor_is():
    structure = trace(PlainConvs(), images())
    least = floor(structure)
    assert 0 < least < 0.05
    with pytest.raises(BudgetError, match=f"{least:.3f}"):
        select(structure, scores(structure), least / 2, least / 10)


def test_nothing_to_prune_has_no_units():
    assert trace(OneLinear(), images()).units == 0


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "normed",
    [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm, nn.utils.weight_norm,
     nn.utils.spectral_norm],
)  # fmt: skip
def test_resize_leaves_layers_alone_whose_weight_is_computed(normed):
    def build_one():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(), normed(nn.Conv2d(12, 6, 3))]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)).eval()

    model, x = build_one(), images()
    structure = trace(model, x)
    assert [g.name for g in structure.groups] == ["0"]
    model = remove(model, structure, torch.arange(structure.units) % 2 == 0)
    again = resize(build_one(), trace(build_one(), x), model.state_dict())
    assert again[0].out_channels == 4
    assert torch.equal(evaluate(again, x), evaluate(model, x))
