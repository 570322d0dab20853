"""What is particular to each baseline; what they share is in test_contract."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from greenprune.bench.models import build
from greenprune.methods import BudgetError, Skip, count_macs, count_params, registry
from greenprune.methods.depgraph import DepGraph, GroupNorms
from greenprune.methods.magnitude import filter_scores
from greenprune.methods.options.depgraph import DepGraphOptions
from greenprune.methods.options.slimming import SlimmingOptions
from greenprune.methods.random_channels import random_scores
from greenprune.methods.slimming import Slimming, histogram, scale_scores, scales
from greenprune.methods.structure.surgery import evaluate
from greenprune.methods.uniform import sliced_scores
from torch import nn

from tests.methods.contract import run
from tests.methods.networks import PlainConvs, SmallResidual, batches, images, network
from tests.methods.traces import trace

# random


def test_random_depends_on_the_seed_alone() -> None:
    structure = trace(network(), images(2, 16))
    assert torch.equal(random_scores(structure, 3), random_scores(structure, 3))
    assert not torch.equal(random_scores(structure, 3), random_scores(structure, 4))


def test_random_removes_layers_only_when_told_to() -> None:
    def branches(layers: bool) -> int:
        result, _ = run("random", network(), 0.3, steps=2, options={"layers": layers})
        return sum(isinstance(m, nn.Conv2d) for m in result.modules())

    assert branches(False) == sum(isinstance(m, nn.Conv2d) for m in network().modules())
    assert branches(True) < branches(False)


# magnitude


@pytest.mark.parametrize(("norm", "expected"), [("l1", [3.0, 4.0]), ("l2", [3.0, 2.0])])
def test_magnitude_ranks_by_the_norm_asked_for(norm: str, expected: list[float]) -> None:
    model = PlainConvs()
    with torch.no_grad():
        model.first.weight.zero_()
        model.first.weight[0].view(-1)[0] = 3.0  # one large weight
        model.first.weight[1].view(-1)[:4] = 1.0  # four small ones
    scores = filter_scores(model, trace(model, images(2, 16)), norm, "global")[:2]
    assert float(scores[0] / scores[1]) == pytest.approx(expected[0] / expected[1])


# slimming


def test_scales_shrink_by_the_subgradient_alone() -> None:
    method = Slimming(SlimmingOptions(strength=0.01, drift=0.0), keep=0.5, steps=10)
    trained = method.prepare(network(), images(2, 16))
    for p in trained.parameters():
        p.grad = torch.zeros_like(p)
    method.after_backward()
    for p in scales(trained):
        assert torch.allclose(p.grad, 0.01 * p.detach().sign())
    rest = [p for p in trained.parameters() if all(p is not s for s in scales(trained))]
    assert all((p.grad == 0).all() for p in rest)
    weights, own = method.param_groups(trained)
    assert own["weight_decay"] == 0.0
    assert "weight_decay" not in weights
    assert {id(p) for p in own["params"]} == {id(p) for p in scales(trained)}
    assert len(weights["params"]) + len(own["params"]) == len(list(trained.parameters()))


def test_the_penalty_ends_with_its_phase() -> None:
    method = Slimming(keep=0.5, steps=10)
    trained = method.prepare(network(), images(2, 16))
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.0)
    for _ in range(6):
        method.after_step(optimizer)
    for p in trained.parameters():
        p.grad = torch.zeros_like(p)
    method.after_backward()
    assert all((p.grad == 0).all() for p in trained.parameters())


def test_the_penalty_makes_scales_sparse() -> None:
    """The histogram of |γ| has mass near 0, and without the penalty it has none."""

    def near_zero(**options: float) -> float:
        model = build("resnet20", 10, seed=0)  # with its initial scales, of which half is what training starts from
        _, method = run("slimming", model, 0.5, steps=60, batch=16, options={"train_share": 0.8, **options})
        found = method.history()["scale_histogram"]
        assert len(found["edges"]) == len(found["counts"]) + 1
        low = [n for n, edge in zip(found["counts"], found["edges"][1:], strict=True) if edge <= 0.1]
        return sum(low) / sum(found["counts"])

    assert near_zero(drift=1.0) > 0.1
    assert near_zero(strength=0.0, drift=0.0) < 0.02


def test_initial_scales_are_halved_and_those_of_given_weights_are_not() -> None:
    """Half of what a trained network multiplies by would be another function, and a useless one."""
    given, fresh = network(), build("resnet20", 10, seed=0)
    expected = evaluate(given, images(4, 16))
    Slimming(keep=0.5, steps=10).prepare(given, images(2, 16))
    torch.testing.assert_close(evaluate(given, images(4, 16)), expected)
    Slimming(keep=0.5, steps=10).prepare(fresh, images(2, 16))
    assert all((scale == 0.5).all() for scale in scales(fresh))


def test_heads_of_attention_are_ranked_by_their_weights() -> None:
    """Their projections are counted as products, not as a layer's: all the same they are what is removed."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
    model = nn.Sequential(
        nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.Flatten(), nn.Linear(32 * 6, 3)
    )
    rows = slice(8, 16)  # the second head is the largest
    with torch.no_grad():
        for first in (0, 32, 64):
            model[0].layers[0].self_attn.in_proj_weight[first + rows.start : first + rows.stop] *= 5
    structure = trace(model, torch.randn(2, 6, 32))
    (heads,) = [group for group in structure.groups if "self_attn" in group.name]
    for scores in (filter_scores(model, structure, "l2", "global"), sliced_scores(model, structure)):
        own = scores[heads.units]
        assert own.max() > 0
        assert int(own.argmax()) == int(structure.layers[heads.name].out_units[rows.start] - heads.start)


def test_coupled_channels_are_ranked_by_their_mean_scale() -> None:
    model = network()
    structure = trace(model, images(2, 16))
    inner = next(g for g in structure.groups if g.name == "layer1.0.conv1")
    stream = next(g for g in structure.groups if g.name == "conv1")
    scores = scale_scores(model, structure)
    assert torch.allclose(scores[inner.units], model.layer1[0].bn1.weight.abs())
    norms = [model.bn1, *(block.bn2 for block in model.layer1)]
    assert torch.allclose(scores[stream.units], torch.stack([n.weight for n in norms]).mean(0))


def test_a_network_without_norms_is_refused() -> None:
    with pytest.raises(Skip, match="batch norm"):
        Slimming(keep=0.5, steps=10).prepare(PlainConvs(), images(2, 16))


def test_histogram_by_hand() -> None:
    found = histogram(torch.tensor([0.0, 0.01, 1.0]))
    assert (found["counts"][0], found["counts"][-1], sum(found["counts"])) == (2, 1, 3)
    assert (found["edges"][0], found["edges"][-1]) == (0.0, 1.0)


# depgraph


def test_the_regulariser_acts_in_its_phase_alone_and_shrinks_the_least_important_most() -> None:
    method = DepGraph(DepGraphOptions(strength=0.01), keep=0.5, steps=10)
    trained = method.prepare(network(), images(2, 16))
    conv = trained.model.layer1[0].conv1
    with torch.no_grad():
        conv.weight[3] *= 0.1

    def pulled() -> torch.Tensor:
        for p in trained.parameters():
            p.grad = torch.zeros_like(p)
        method.after_backward()
        return (conv.weight.grad / conv.weight.detach()).flatten(1).mean(1)

    assert (pulled() == 0).all()  # train
    method.step = 4
    strength = pulled()
    assert strength.min() > 0
    assert strength.argmax() == 3
    assert float(strength.max() / strength.min()) > 2  # less than 2 ** 4: as an input it is pulled with the stream
    method.step = 7
    assert (pulled() == 0).all()  # fine-tune


def test_shares_that_leave_no_fine_tuning_are_refused() -> None:
    with pytest.raises(ValueError, match="leave nothing for fine-tuning"):
        DepGraph.phases(DepGraphOptions(train_share=0.5, sparsify_share=0.5))


def grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, groups=4), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def test_channels_beside_grouped_convolutions_are_ranked_too() -> None:
    result, _ = run("depgraph", grouped(), 0.5, steps=8, options={"train_share": 0.2})
    x = images(2, 16)
    assert 0.48 <= count_macs(result, x) / count_macs(grouped(), x) <= 0.5


def test_regulariser_and_importance_are_those_of_torch_pruning() -> None:
    import torch_pruning as tp

    model, x = network(), images(2, 16)
    structure = trace(model, x)
    modules = dict(model.named_modules())
    names = {module: name for name, module in modules.items()}
    pruner = tp.pruner.GroupNormPruner(
        model.eval(), x, importance=tp.importance.GroupMagnitudeImportance(p=2, normalizer="max"), reg=1e-2, alpha=4,
        global_pruning=True, ignored_layers=[modules[name] for name, _ in structure.fixed],
    )  # fmt: skip
    norms = GroupNorms(model, structure)
    mine = norms.importance(model)
    compared = 0
    for group in pruner._groups:
        units = structure.layers[names[group[0].dep.target.module]].out_units[group[0].idxs]
        assert torch.allclose(mine[units], pruner.estimate_importance(group), rtol=1e-4)
        compared += len(units)
    assert compared == structure.channel_units.sum()

    def gradients(act: Callable[[], None]) -> list[torch.Tensor]:
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        act()
        return [p.grad for p in model.parameters()]

    theirs = gradients(lambda: pruner.regularize(model, alpha=2**4))
    ours = gradients(lambda: norms.pull(model, 1e-2, 2**4))
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(ours, theirs, strict=True))
    assert any(g.abs().max() > 0.01 for g in ours)


# all


@pytest.mark.parametrize("name", ["random", "shallow", "slimming", "depgraph", "one_cycle", "hesso"])
def test_a_budget_of_parameters_in_multiples(name: str) -> None:
    x = images(2, 16)
    method = registry()[name](keep=0.5, steps=10, tolerance=0.05, cost="params", round_to=4)
    trained = method.prepare(network(), x)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.0)
    for _ in range(10):
        method.after_step(optimizer)
    result = method.finish()
    kept = count_params(result) / count_params(network())
    assert 0.45 <= kept <= 0.5
    assert kept == pytest.approx(method.predicted_cost, abs=1e-5)
    assert all(m.out_channels % 4 == 0 for m in result.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize("name", ["random", "shallow", "slimming", "depgraph", "one_cycle", "hesso"])
def test_a_budget_of_parameters_below_the_floor_is_named(name: str) -> None:
    with pytest.raises(BudgetError, match=r"floor of this network, 0\.\d+ of the dense parameters"):
        registry()[name](keep=1e-6, steps=10, cost="params").prepare(network(), images(2, 16))


@pytest.mark.parametrize("name", ["magnitude", "slimming", "depgraph", "hesso"])
def test_the_shortest_training_cuts_too(name: str) -> None:
    steps, shares = {
        "hesso": (2, {}),
        "depgraph": (1, {"train_share": 0.2, "sparsify_share": 0.2}),
    }.get(name, (1, {"train_share": 0.2}))
    result, _ = run(name, SmallResidual(), 0.5, steps=steps, options=shares)
    assert 0.45 <= count_macs(result, images(2, 16)) / count_macs(SmallResidual(), images(2, 16)) <= 0.5


@pytest.mark.parametrize(
    ("name", "counted"), [("dynamic", "MACs on average"), ("magnitude_unstructured", "connections")]
)
def test_other_costs_are_refused_where_the_budget_counts_something_else(name: str, counted: str) -> None:
    with pytest.raises(
        ValueError, match=f'cost = "params": {name} cannot keep such a budget, its own counts {counted}'
    ):
        registry()[name](keep=0.5, steps=10, cost="params")


@pytest.mark.parametrize("name", ["random", "magnitude", "slimming", "depgraph", "dynamic", "magnitude_unstructured"])
def test_it_learns(name: str) -> None:
    result, _ = run(name, network(), 0.5, steps=60, batch=16)
    x, y = batches(1, batch=200, size=16, seed=9)[0]
    accuracy = float((evaluate(result, x).argmax(1) == y).float().mean())
    assert accuracy > 0.3  # chance is 0.1
    assert registry()[name].source
