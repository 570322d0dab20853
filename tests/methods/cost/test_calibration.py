"""Tables of measured costs. Nothing here depends on how long anything takes: what "measures" is a counter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from greenprune.bench.models import build
from greenprune.methods import ConsensusGating, CostTable, MacMeter, calibrate, registry
from greenprune.methods.budget.select import BudgetError, select
from greenprune.methods.cost.calibration import stopwatch
from greenprune.methods.cost.costs import MacCost
from greenprune.methods.cost.measured_cost import TableCost
from greenprune.methods.cost.points import grid
from greenprune.methods.structure.surgery import remove
from greenprune.methods.uniform import uniform_scores
from pydantic import ValidationError
from torch import nn

from tests.methods.networks import OneLinear, PlainConvs, batches, images, network
from tests.methods.traces import trace

VECTOR = 8


def macs_of(run) -> float:
    """Proportional to multiply-accumulates: a measurement whose result is known."""
    with MacMeter() as meter:
        run()
    return meter.total * 1e-9 + 1e-15


def staircase_of(run) -> float:
    """As on a processor whose vectors hold 8 channels: outputs cost as many as the next multiple."""
    total = [1e-12]

    def count(module, inputs, output):
        if isinstance(module, nn.Conv2d):
            steps = -(-module.out_channels // VECTOR) * -(-module.in_channels // VECTOR)
            total[0] += steps * output[0, 0].numel() * len(output) * 1e-9

    handle = nn.modules.module.register_module_forward_hook(count)
    try:
        run()
    finally:
        handle.remove()
    return total[0]


def table_of(model, measure=macs_of, **options) -> CostTable:
    return calibrate(model, images(1, size=16), batch_size=2, measure=measure, rounds=1, **{"steps": 2, **options})


@pytest.fixture(scope="module")
def steps_table() -> CostTable:
    return table_of(build("resnet20", 10, seed=0), staircase_of, steps=8)


def test_grid_has_multiples_and_odd_widths():
    assert grid(16) == [1, 4, 8, 9, 12, 16]
    assert grid(64) == [1, 8, 16, 17, 24, 32, 33, 40, 48, 49, 56, 64]
    assert grid(3) == [1, 3]
    assert len(grid(512)) <= 13
    assert {64, 128, 129, 512} <= set(grid(512))


@pytest.mark.parametrize("name", ["resnet20", "vgg16_bn", "torchvision/mobilenet_v2"])
def test_a_table_of_macs_is_the_cost_in_macs(name):
    """Bilinear interpolation is exact for what is bilinear, and every layer is there at the right place."""
    model, x = build(name, 10, seed=0), images(1)
    table = calibrate(model, x, batch_size=1, measure=macs_of, rounds=1, steps=2)
    structure = trace(model, x)
    cost, macs = TableCost(structure, table), MacCost(structure)
    assert table.scale == pytest.approx(1.0, rel=1e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        openness = (torch.rand(structure.units, generator=generator) < 0.6).float()
        for group in structure.groups:
            openness[group.start] = 1.0
        openness[~structure.channel_units] = 1.0
        assert float(cost(openness)) == pytest.approx(float(macs(openness)), rel=1e-3)


def test_a_closed_branch_takes_its_layers_along():
    model, x = build("resnet20", 10, seed=0), images(1, size=16)
    structure = trace(model, x)
    cost, macs = TableCost(structure, table_of(model)), MacCost(structure)
    openness = torch.ones(structure.units)
    openness[structure.branches[2].unit] = 0.0
    openness[structure.branches[6].unit] = 0.5
    assert float(cost(openness)) == pytest.approx(float(macs(openness)), rel=1e-3)


def test_exact_and_differentiable_cost_agree(steps_table):
    structure = trace(build("resnet20", 10, seed=0), images(1, size=16))
    cost = TableCost(structure, steps_table)
    chosen = select(
        structure, torch.rand(structure.units, generator=torch.Generator().manual_seed(1)), 0.5, 0.02, cost=cost
    )
    openness = chosen.float().requires_grad_()
    value = cost(openness)
    assert 0.45 <= float(value.detach()) <= 0.5
    value.backward()
    assert openness.grad.isfinite().all()
    assert (cost.prices() > 0).all()
    assert cost(torch.rand(5, structure.units)).shape == (5,)


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.7])
def test_only_whole_steps_are_taken(steps_table, keep):
    """The widths that are kept are at the edges of the stairs: above costs more, below saves nothing."""
    structure = trace(build("resnet20", 10, seed=0), images(1, size=16))
    cost = TableCost(structure, steps_table)
    score = torch.rand(structure.units, generator=torch.Generator().manual_seed(2))
    score[~structure.channel_units] = float("inf")
    chosen = select(structure, score, keep, 0.02, cost=cost)
    assert 0.9 * keep <= float(cost(chosen.float())) <= keep
    widths = [int(chosen[g.units].sum()) for g in structure.groups]
    assert all(w % VECTOR == 0 for w in widths), widths


@pytest.mark.parametrize("keep", [0.4, 0.6])
def test_scores_that_are_no_losses_are_not_weighed_against_what_is_saved(steps_table, keep):
    """A rank within the layer means the same share of every layer, whatever its channels cost: also the stem's, the dearest."""
    structure = trace(build("resnet20", 10, seed=0), images(1, size=16))
    chosen = select(
        structure, uniform_scores(structure), keep, 0.02, structure.channel_units, TableCost(structure, steps_table)
    )
    # Of a layer of 16 channels only the half can go, of one of 64 an eighth: shares differ by at most such a step.
    for group in structure.groups:
        share = int(chosen[group.units].sum()) / group.width
        assert share == pytest.approx(keep**0.5, abs=0.5 * 16 / group.width + 0.1), (group.name, share)


def test_losses_are_weighed_against_what_is_saved(steps_table):
    """All channels are worth the same: the stream of the first stage saves most of all."""
    structure = trace(build("resnet20", 10, seed=0), images(1, size=16))
    cost = TableCost(structure, steps_table)
    even = torch.ones(structure.units)
    widths = [
        [
            int(select(structure, even, 0.6, 0.02, structure.channel_units, cost, per=per)[g.units].sum())
            for g in structure.groups
        ]
        for per in ("channel", "saved")
    ]
    assert widths[0] != widths[1]
    stem = next(i for i, group in enumerate(structure.groups) if group.name == "conv1")
    assert widths[1][stem] == 8


def test_a_table_serves_a_network_that_was_cut(steps_table):
    model, x = build("resnet20", 10, seed=0), images(1, size=16)
    structure = trace(model, x)
    cost = TableCost(structure, steps_table)
    chosen = select(
        structure, torch.rand(structure.units, generator=torch.Generator().manual_seed(4)), 0.6, 0.02, cost=cost
    )
    assert not chosen[~structure.channel_units].all()  # a branch is gone, too
    model = remove(model, structure, chosen)
    again = trace(model, x)
    now = TableCost(again, steps_table)
    assert float(now(torch.ones(again.units))) == pytest.approx(float(cost(chosen.float())), rel=1e-5)
    further = select(again, torch.rand(again.units, generator=torch.Generator().manual_seed(5)), 0.4, 0.02, cost=now)
    assert 0.36 <= float(now(further.float())) <= 0.4


def test_a_table_of_another_network_is_refused(steps_table):
    for other, message in ((build("vgg16_bn", 10), "belongs to another"), (PlainConvs(), "belongs to another")):
        with pytest.raises(ValueError, match=message):
            TableCost(trace(other, images(1)), steps_table)


def test_tables_survive_storage(steps_table, tmp_path):
    steps_table.save(tmp_path / "table.json")
    again = CostTable.load(tmp_path / "table.json")
    assert again == steps_table
    assert (again.kind, again.unit, again.batch_size, again.dtype, again.device) == (
        "latency",
        "s",
        2,
        "float32",
        "cpu",
    )
    assert again.torch_version == torch.__version__
    assert again.unexplained == pytest.approx(again.whole - again.layers_sum)
    (tmp_path / "table.json").write_text("{}")
    with pytest.raises(ValidationError):
        CostTable.load(tmp_path / "table.json")


def test_layers_are_scaled_to_the_whole_network():
    """What runs a convolution alone pays for it twice: layers cost more than the network does, their sum in the table not."""
    model = build("resnet20", 10, seed=0)
    dense = macs_of(lambda: model(images(2, size=16)))
    table = table_of(model, lambda run: (found := macs_of(run)) + min(found, dense / 10))
    assert table.scale < 0.99
    assert table.unexplained < 0
    structure = trace(model, images(1, size=16))
    assert float(TableCost(structure, table)(torch.ones(structure.units))) == pytest.approx(1.0, rel=1e-5)


def test_what_a_call_takes_is_no_part_of_a_layer():
    """A runtime takes a while for each call: a network pays it once, its layers in calls of their own do not."""
    model, constant = build("resnet20", 10, seed=0), 1e-4
    plain, table = table_of(model), table_of(model, lambda run: macs_of(run) + constant)
    assert table.layers_sum == pytest.approx(plain.layers_sum, rel=0.05)
    assert table.whole == pytest.approx(plain.whole + constant)


def test_equal_shapes_are_measured_once_and_the_model_stays_as_it_was():
    model = network().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    table = table_of(model)
    assert table.layers["layer3.1.conv1"] == table.layers["layer3.2.conv1"]
    assert len({shape for calls in table.layers.values() for shape in calls}) < len(table.layers)
    assert table.leaves["layer3.1.conv1"] == table.leaves["layer3.2.conv1"]
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_the_norm_and_the_addition_belong_to_the_layer_before():
    table = table_of(build("resnet20", 10, seed=0))
    (shape,) = table.layers["layer1.1.conv2"]
    for what in ("Conv2d", "BatchNorm2d", "add", "relu"):
        assert what in table.shapes[shape].shape
    assert "layer1.1.bn2" not in table.layers


def test_strided_pointwise_convolutions_never_run_with_few_channels():
    """They corrupt the heap on some CPUs (bench/models/traps.py)."""
    seen = []

    class Strided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 12, 3, padding=1)
            self.second = nn.Conv2d(12, 24, 1, stride=2)
            self.last = nn.Linear(24, 10)

        def forward(self, x):
            return self.last(self.second(self.first(x)).mean((2, 3)))

    def measured(run) -> float:
        handle = nn.modules.module.register_module_forward_hook(
            lambda m, i, o: seen.append((m.in_channels, m.stride)) if isinstance(m, nn.Conv2d) else None
        )
        try:
            return macs_of(run)
        finally:
            handle.remove()

    calibrate(Strided(), images(1), batch_size=1, measure=measured, rounds=1)
    assert (1, (1, 1)) in seen
    assert not any(stride == (2, 2) and width < 12 for width, stride in seen)


def test_the_stopwatch_measures_something():
    assert stopwatch("cpu")(lambda: sum(range(20_000))) > 0


def test_energy_needs_a_measure_and_costs_are_positive():
    with pytest.raises(ValueError, match="needs a `measure`"):
        calibrate(PlainConvs(), images(1), batch_size=1, kind="energy")
    with pytest.raises(ValueError, match="above 0"):
        table_of(PlainConvs(), lambda run: 0.0)
    assert table_of(OneLinear()).layers  # nothing to prune, but something to measure


def test_gates_search_for_a_budget_of_time(steps_table):
    torch.manual_seed(0)
    x = batches(1)[0][0]
    gating = ConsensusGating(
        build("resnet20", 10, seed=0), x, keep=0.5, steps=20, cost="latency", table=steps_table
    ).train()
    optimizer = torch.optim.SGD(gating.parameters(), lr=0.05, momentum=0.9)
    for x, y in batches(20):
        (F.cross_entropy(gating(x), y) + gating.penalty()).backward()
        optimizer.step()
        optimizer.zero_grad()
        gating.step(optimizer)
    small = gating.finish()
    again = trace(small, x)
    kept = float(TableCost(again, steps_table)(torch.ones(again.units)))
    assert 0.45 <= kept <= 0.5
    assert kept == pytest.approx(gating.predicted_cost, rel=1e-5)


@pytest.mark.parametrize(
    "name", ["depgraph", "hesso", "magnitude", "one_cycle", "random", "shallow", "slimming", "uniform"]
)
def test_methods_take_the_cost(steps_table, name):
    model = build("resnet20", 10, seed=0)
    method = registry()[name](keep=0.6, steps=10, cost="latency", table=steps_table)
    x = batches(1)[0][0]
    trained = method.prepare(model, x[:2])
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.01)
    for _ in range(10):
        method.after_step(optimizer)
    again = trace(method.finish(), x)
    kept = float(TableCost(again, steps_table)(torch.ones(again.units)))
    assert 0.54 <= kept <= 0.6
    assert kept == pytest.approx(method.predicted_cost, rel=1e-5)


@pytest.mark.parametrize(
    "name", ["depgraph", "gated", "hesso", "magnitude", "one_cycle", "random", "shallow", "slimming", "uniform"]
)
def test_a_measured_cost_without_a_table_is_refused(name):
    with pytest.raises(ValueError, match="needs a table"):
        registry()[name](keep=0.5, steps=10, cost="latency")
    with pytest.raises(ValueError, match="round_to = 0"):
        registry()[name](keep=0.5, steps=10, round_to=0)


def test_a_budget_below_the_floor_names_the_cost(steps_table):
    with pytest.raises(BudgetError, match="the floor"):
        ConsensusGating(
            build("resnet20", 10), images(2, size=16), keep=0.001, steps=10, cost="latency", table=steps_table
        )
