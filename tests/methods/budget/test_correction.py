"""Whole networks correct a table. What "measures" is a counter: nothing here depends on how long anything takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from greenprune.bench.models import build
from greenprune.methods import MacMeter, calibrate
from greenprune.methods.budget.correction import corrected, slope_of
from greenprune.methods.budget.select import select
from greenprune.methods.cost.measured_cost import Sample, TableCost
from greenprune.methods.structure.remnant import with_remnants
from greenprune.methods.structure.surgery import remove

from tests.methods.networks import images
from tests.methods.traces import trace

HALF = 2e6  # MACs that a runtime takes whatever is removed


class Counting:
    """A target whose networks cost their MACs and a fixed part, and whose layers their MACs alone."""

    name = "counting"

    def network(self, model, images):
        def run():
            model(images)
            return HALF

        return run

    def layer(self, segment, inputs, outputs):
        return None


def macs_of(run) -> float:
    with MacMeter() as meter:
        more = run()
    return meter.total + (more if isinstance(more, float) else 0.0) + 1e-6


def test_what_a_network_takes_besides_its_layers_is_not_saved() -> None:
    model, x = build("resnet20", 10, seed=0), images(1, size=16)
    structure = trace(model, x)
    before = calibrate(model, x, batch_size=1, measure=macs_of, rounds=1, steps=2, target=Counting())
    assert (before.runtime, before.slope) == ("counting", 1.0)
    table = corrected(model, x, before, target=Counting(), measure=macs_of, rounds=1)
    plain = [sample for sample in table.samples if sample.left is None]
    assert [sample.closed for sample in plain].count(True) == len(plain) / 2 == 3
    assert [sample.left for sample in table.samples[len(plain) :]] == ["thin", "separable"]
    assert list(table.left_scales.values()) == pytest.approx([1.0, 1.0], rel=0.01)  # as alone
    dense = table.whole
    assert table.slope == pytest.approx(1 - HALF / dense, rel=0.02)
    assert table.closing_slope == pytest.approx(table.slope, rel=1e-3)
    cost = TableCost(structure, table)
    assert float(cost(torch.ones(structure.units))) == pytest.approx(1.0, rel=1e-5)
    scores = torch.rand(structure.units, generator=torch.Generator().manual_seed(7))
    chosen = select(structure, scores, 0.6, 0.02, None, cost)
    kept = float(cost(chosen.float()))
    layers = float(TableCost(structure, before)(chosen.float()))
    assert kept == pytest.approx(1 - table.slope * (1 - layers), rel=1e-3)
    assert 0.54 <= kept <= 0.6


def test_closed_layers_and_narrower_ones_are_corrected_apart() -> None:
    """Of each, what is saved is multiplied; a network that was cut costs what its choice did."""
    model, x = build("resnet20", 10, seed=0), images(1, size=16)
    structure = trace(model, x)
    plain = calibrate(model, x, batch_size=1, measure=macs_of, rounds=1, steps=2)
    table = plain.model_copy(update={"slope": 0.5, "closing_slope": 0.8})
    narrow, closed = torch.ones(structure.units), torch.ones(structure.units)
    narrow[structure.groups[1].units][2:] = 0.0
    closed[[b.unit for b in structure.branches[1::3]]] = 0.0
    for openness, slope in ((narrow, 0.5), (closed, 0.8)):
        saved = 1 - float(TableCost(structure, plain)(openness))
        assert saved > 0.01
        assert float(TableCost(structure, table)(openness)) == pytest.approx(1 - slope * saved, rel=1e-4)
    chosen = (narrow * closed).bool()
    cost = float(TableCost(structure, table)(chosen.float()))
    again = trace(remove(model, structure, chosen), x)
    assert float(TableCost(again, table)(torch.ones(again.units))) == pytest.approx(cost, rel=1e-3)


def test_slopes_above_1_save_their_multiple_and_never_more_than_all() -> None:
    model, x = build("resnet20", 10, seed=0), images(1, size=16)
    structure = trace(model, x)
    plain = calibrate(model, x, batch_size=1, measure=macs_of, rounds=1, steps=2)
    table = plain.model_copy(update={"slope": 2.0, "closing_slope": 2.0})
    cost, keep = TableCost(structure, table), torch.ones(structure.units)
    keep[structure.branches[1].unit] = 0.0
    saved = 1 - float(TableCost(structure, plain)(keep))
    assert float(cost(keep)) == pytest.approx(1 - 2.0 * saved, rel=1e-4)
    for group in structure.groups:
        keep[group.units][1:] = 0.0
    keep[~structure.channel_units] = 0.0
    assert float(cost(keep)) == 0.0
    channels = np.array([[min(side, 1.0) for side in sides] for sides in cost.widths])
    assert float(cost.count(channels, np.zeros(len(cost.parts)))) == 0.0
    small = trace(remove(model, structure, keep.bool()), x)
    assert float(TableCost(small, table)(torch.ones(small.units))) == 0.0


def test_what_remnants_take_in_a_network_is_a_multiple_of_what_they_take_alone() -> None:
    """Networks whose grouped convolutions cost nothing, as where a runtime fuses them."""

    class Fusing(Counting):
        def network(self, model, images):
            free = sum(
                m.weight[0].numel() * m.out_channels * (16 // (m.in_channels // 16)) ** 2
                for m in model.modules()
                if isinstance(m, torch.nn.Conv2d) and m.groups > 1
            )

            def run():
                model(images)
                return -float(free)

            return run

    model, x = build("resnet20", 10, seed=0), images(1, size=16)
    before = calibrate(model, x, batch_size=1, measure=macs_of, rounds=1, steps=2, target=Fusing())
    table = corrected(model, x, before, target=Fusing(), measure=macs_of, rounds=1)
    assert 0.0 < table.left_scales["separable"] < 0.95  # its centre taps still cost
    structure = with_remnants(trace(model, x), model, "separable")
    (branch, *_) = (b for b in structure.branches if b.remnant is not None)
    closed = torch.ones(structure.units)
    closed[branch.unit] = 0.0
    alone = table.model_copy(update={"left_scales": {}})
    gone = float(TableCost(structure, table.model_copy(update={"left_scales": {"separable": 0.0}}))(closed))
    left = float(TableCost(structure, table)(closed)) - gone
    assert left == pytest.approx(
        table.left_scales["separable"] * (float(TableCost(structure, alone)(closed)) - gone), rel=1e-3
    )


@pytest.mark.parametrize(
    ("pairs", "slope"),
    [([(0.5, 0.6), (0.75, 0.8)], 0.8), ([(0.5, 0.4)], 1.2), ([], 1.0), ([(1.0, 1.3)], 1.0), ([(0.5, 1.4)], 0.2)],
)
def test_the_slope_of_a_line_through_the_dense_network(pairs, slope) -> None:
    assert slope_of([Sample(layers=a, measured=b) for a, b in pairs]) == pytest.approx(slope)
