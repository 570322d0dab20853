"""What closed layers leave under a budget of time. What "measures" is a counter: nothing here depends on how long it takes."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
import torch.nn.functional as F
from greenprune.bench.models import build
from greenprune.methods import ConsensusGating, CostTable, GatingOptions, MacMeter, calibrate, count_macs
from greenprune.methods.cost.costs import MacCost
from greenprune.methods.cost.measured_cost import TableCost
from greenprune.methods.gating import leaving
from greenprune.methods.structure.remnant import kind_of, with_remnants
from greenprune.methods.structure.surgery import remove
from torch import nn

from tests.methods.networks import batches, images
from tests.methods.traces import trace

WORTHS = {"thin": 0.5, "separable": 0.4}


def macs_of(run) -> float:
    with MacMeter() as meter:
        run()
    return meter.total * 1e-9 + 1e-15


def calls_of(run) -> float:
    """As for a single image: what a convolution takes is the call, and a little for its multiply-accumulates."""
    calls = [0]

    def count(module, inputs, output):
        calls[0] += isinstance(module, nn.Conv2d)

    handle = nn.modules.module.register_module_forward_hook(count)
    try:
        return macs_of(run) + calls[0] * 1e-1
    finally:
        handle.remove()


def both_of(run) -> float:
    """Many channels take their multiply-accumulates, few take their calls: layers of one network differ."""
    widths = []
    handle = nn.modules.module.register_module_forward_hook(
        lambda m, i, o: widths.append(m.out_channels) if isinstance(m, nn.Conv2d) else None
    )
    try:
        took = macs_of(run)
    finally:
        handle.remove()
    return took if min(widths, default=64) >= 32 else took + 2e-3 * len(widths)


def table_of(measure) -> CostTable:
    return calibrate(build("resnet20", 10, seed=0), images(1), batch_size=1, measure=measure, rounds=1, steps=1)


@pytest.fixture(scope="module")
def macs_table() -> CostTable:
    return table_of(macs_of)


def test_no_other_choice_loses_less_for_what_it_saves() -> None:
    """Against all that four layers of equal worth for their cost can be turned into, at every number of closed layers."""
    draw = random.Random(0)
    left = set()
    for _ in range(50):
        gone = [draw.uniform(0.5, 2.0) for _ in range(4)]
        saved = [{kind: g * draw.uniform(0.2, 1.0) for kind in WORTHS} for g in gone]
        options = [{"open": (0.0, 0.0), None: (g, g)} for g in gone]  # what is saved, what is lost
        for own, g, s in zip(options, gone, saved, strict=True):
            own |= {kind: (s[kind], g * (1.0 - WORTHS[kind])) for kind in WORTHS}
        chosen = [leaving.best(g, s, WORTHS) for g, s in zip(gone, saved, strict=True)]
        left |= set(chosen)
        order = sorted(range(4), key=lambda i: options[i][chosen[i]][1] / options[i][chosen[i]][0])
        for closed in range(1, 5):
            mine = [options[i][chosen[i]] for i in order[:closed]]
            enough, loss = sum(s for s, _ in mine), sum(lost for _, lost in mine)
            every = itertools.product(*(own.values() for own in options))
            others = [sum(lost for _, lost in them) for them in every if sum(s for s, _ in them) >= enough - 1e-9]
            assert loss == pytest.approx(min(others))
    assert left == {None, "thin", "separable"}


def test_what_saves_nothing_is_left_by_nobody() -> None:
    assert leaving.best(1.0, {"thin": 0.0, "separable": -0.1}, WORTHS) is None
    assert leaving.best(0.0, {"thin": 0.1}, WORTHS) is None


def test_the_table_knows_what_every_closable_layer_can_leave(macs_table) -> None:
    """In MACs, where the price is known: each kind, and the network that is really left."""
    model, x = build("resnet20", 10, seed=0), images(1)
    structure = trace(model, x)
    for kind in ("thin", "separable"):
        own = with_remnants(structure, model, kind)
        keep = torch.ones(structure.units, dtype=torch.bool)
        keep[[b.unit for b in own.branches[1::3]]] = False
        priced, counted = float(TableCost(own, macs_table)(keep.float())), float(MacCost(own)(keep.float()))
        assert priced == pytest.approx(counted, rel=1e-3)
        assert priced > float(TableCost(structure, macs_table)(keep.float())) + 1e-3
    assert set(macs_table.leaves["layer1.1.conv2"]) == {"nothing", "centre", "both"}
    small = remove(model, own, keep)
    with pytest.raises(ValueError, match=r"layer1\.1\.conv1 is what a closed branch left"):
        TableCost(trace(small, x), macs_table)


@pytest.mark.parametrize(
    ("measure", "options", "expected"),
    [
        (macs_of, {}, {"layer1": "thin", "layer2": "thin", "layer3": "thin"}),
        (
            macs_of,
            {"closed_layers": "separable"},
            {"layer1": "separable", "layer2": "separable", "layer3": "separable"},
        ),
        (calls_of, {}, {}),
        (both_of, {}, {"layer2": "thin", "layer3": "thin"}),
    ],
)
def test_layers_leave_what_their_costs_speak_for(macs_table, measure, options, expected) -> None:
    model = build("resnet20", 10, seed=0)
    table = macs_table if measure is macs_of else table_of(measure)
    found = leaving.chosen(trace(model, images(1)), model, table, GatingOptions(**options), most=0.2)
    kinds = {b.name.split(".")[0]: kind_of(b.remnant) for b in found.branches if b.remnant is not None}
    assert kinds == expected


def test_remnants_stay_within_their_share(macs_table) -> None:
    model = build("resnet20", 10, seed=0)
    structure = trace(model, images(1))
    all_of_them, some = (leaving.chosen(structure, model, macs_table, GatingOptions(), most) for most in (0.2, 0.03))
    count = [sum(b.remnant is not None for b in s.branches) for s in (all_of_them, some)]
    assert count[0] > count[1] > 0


def test_a_search_for_a_budget_of_time_leaves_them(macs_table) -> None:
    torch.manual_seed(0)
    x = batches(1)[0][0]
    model = build("resnet20", 10, seed=0)
    dense = count_macs(model, images(1))
    gating = ConsensusGating(model, x, keep=0.5, steps=20, cost="latency", table=macs_table).train()
    optimizer = torch.optim.SGD(gating.parameters(), lr=0.05, momentum=0.9)
    for x, y in batches(20):
        (F.cross_entropy(gating(x), y) + gating.penalty()).backward()
        optimizer.step()
        optimizer.zero_grad()
        gating.step(optimizer)
    closed = [b for b in gating.structure.branches if b.remnant is not None and not gating.kept[b.unit]]
    assert closed
    left = gating.history()["leaves"]
    assert {left[b.name] for b in closed} == {"thin"}
    assert left["layer2.0"] == "removed"  # it changes the shape
    assert count_macs(gating.finish(), images(1)) / dense == pytest.approx(gating.predicted_cost, rel=1e-3)
    assert 0.45 <= gating.predicted_cost <= 0.5
