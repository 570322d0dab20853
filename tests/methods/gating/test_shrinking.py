"""Removal while the search goes on. The searches here are short, so their gates are pushed hard."""

import copy

import pytest
import torch
import torch.nn.functional as F
from greenprune.methods import ConsensusGating, GatingOptions, MacMeter, count_macs
from greenprune.methods.gating.shrinking import GONE, OPEN, UNDECIDED, agreed, agreement, present, remaining
from greenprune.methods.gating.wrappers import Gated
from greenprune.methods.structure.macs import count
from greenprune.methods.structure.surgery import evaluate, remove

from tests.methods.networks import PlainConvs, SmallResidual, batches, images, network
from tests.methods.traces import trace

HARD = {
    "drift": 300.0,
    "polarization_weight": 40.0,
    "initial_spread": 1.5,
    "open_share": 0.1,
    "settle_share": 0.5,
    "patience_share": 0.05,
    "noise": 0.2,
}
STEPS = 60


def train(gating, optimizer, steps: range, *, size: int = 8, after=lambda replaced, macs: None) -> None:
    """The steps of `range` of one and the same training."""
    gating.train()
    for x, y in batches(steps.stop, size=size)[steps.start :]:
        optimizer.zero_grad()
        with MacMeter() as meter:
            logits = gating(x)
        (F.cross_entropy(logits, y) + gating.penalty()).backward()
        optimizer.step()
        after(gating.step(optimizer), meter.total)


def start(model=None, keep: float = 0.5, steps: int = STEPS, seed: int = 0, **options):
    torch.manual_seed(seed)
    model = SmallResidual() if model is None else model
    options = GatingOptions(**{"search_share": 0.9, **HARD, **options})
    gating = ConsensusGating(model, images(2, size=8), keep=keep, steps=steps, seed=seed, options=options)
    return gating, torch.optim.SGD(gating.parameters(), lr=0.05, momentum=0.9)


def agree(gating, off: list[int], on: list[int] = ()) -> None:
    """Let the gates of `off` have been below the threshold for long, those of `on` above, in the middle of the search."""
    gating.steps_done = gating.search_steps - 5
    gating.logit_mean.copy_(
        torch.where(gating.decided == OPEN, gating.logit_mean, torch.linspace(1, 2, len(gating.run)))
    )
    gating.logit_mean[off], gating.logit_mean[list(on)] = -9.0, 9.0
    gating.run[off], gating.run[list(on)] = -1000, 1000
    gating._project()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"execution": "per_sample"},
        {"streams": True},
        {"target": "loss", "budget_weight": 200.0},
        {"closed_layers": "removed"},
    ],
    ids=["majority", "per_sample", "streams", "loss", "removed"],
)
def test_the_network_shrinks_during_the_search_and_ends_on_budget(options):
    gating, optimizer = start(**options)
    sizes = []
    train(gating, optimizer, range(STEPS), after=lambda *_: sizes.append(sum(p.numel() for p in gating.parameters())))
    assert len(set(sizes[: gating.search_steps - 1])) > 1  # before the final cut
    kept = count_macs(gating.finish(), images(2, size=8)) / count_macs(SmallResidual(), images(2, size=8))
    assert 0.48 <= kept <= 0.5
    assert gating.masked_max_abs_diff <= 1e-4
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert [id(p) for p in held] == [id(p) for p in gating.parameters()]
    assert set(optimizer.state) == set(held)
    assert all(optimizer.state[p]["momentum_buffer"].shape == p.shape for p in held)


def test_without_shrinking_nothing_is_removed_before_the_end():
    gating, optimizer = start(shrink=False)
    replaced = []
    train(gating, optimizer, range(STEPS), after=lambda r, _: replaced.append(r))
    assert [i + 1 for i, r in enumerate(replaced) if r] == [gating.search_steps]


def test_a_removal_takes_weights_statistics_momentum_and_rows_of_heads_along():
    gating, optimizer = start(closed_layers="removed")
    train(gating, optimizer, range(8))
    group, branch = gating.structure.groups[2], gating.structure.branches[1]
    assert gating.gated[group.start]
    head = next(h for h in gating.heads() if group.start in h.units)
    conv = gating.network.get_submodule(group.name).inner
    norm = gating.network.get_submodule(group.name.replace("conv", "bn"))
    before = {
        "conv": optimizer.state[conv.weight]["momentum_buffer"].clone(),
        "norm": norm.inner.running_mean.clone(),
        "row": optimizer.state[head.last.weight]["momentum_buffer"].clone(),
        "logits": head.units.tolist(),
    }
    off = [group.start, group.start + 3]
    agree(gating, off=[*off, branch.unit], on=[group.start + 1])
    expected = evaluate(gating, images(4, size=8))
    assert gating._shrink(optimizer)
    assert (evaluate(gating, images(4, size=8)) - expected).abs().max() <= 1e-4

    left = [i for i in range(group.width) if group.start + i not in off]
    assert torch.equal(optimizer.state[conv.weight]["momentum_buffer"], before["conv"][left])
    assert torch.equal(norm.inner.running_mean, before["norm"][left])
    rows = [i for i, unit in enumerate(before["logits"]) if unit not in [*off, group.start + 1]]
    assert torch.equal(optimizer.state[head.last.weight]["momentum_buffer"], before["row"][rows])
    assert head.units.tolist() == [before["logits"][i] for i in rows]
    assert head.last.out_features == len(head.last.bias) == len(rows)
    # The branch is gone, with all its channels; its block is the identity (and the ReLU behind it).
    assert count_macs(gating.network.blocks[1], images(2, size=8).repeat(1, 4, 1, 1)) == 0
    inside = next(g for g in gating.structure.groups if g.name == branch.modules[0])
    assert (gating.decided[inside.units] == GONE).all()
    assert (gating.consensus[[*off, branch.unit]] == 0.0).all()
    assert gating.consensus[group.start + 1] == 1.0
    train(gating, optimizer, range(8, 12))  # and it trains on
    assert (gating.consensus[[*off, branch.unit]] == 0.0).all()


def test_a_layer_that_is_decided_as_a_whole_loses_head_mask_and_wrapper():
    gating, optimizer = start()
    branch = gating.structure.branches[0]
    group = next(g for g in gating.structure.groups if g.name == branch.modules[0])
    heads = len(gating.heads())
    held = len(optimizer.param_groups[0]["params"])
    agree(gating, off=[], on=[branch.unit, *range(group.start, group.start + group.width)])
    assert gating._shrink(optimizer)
    assert len(gating.heads()) == heads - 1
    assert len(optimizer.param_groups[0]["params"]) == held - 4
    assert not any(isinstance(m, Gated) for m in gating.network.blocks[0].modules())


def test_gates_of_later_layers_read_the_same_logits_after_a_removal():
    """A head whose layer loses input channels (closed ones) goes on as if they were there."""
    gating, optimizer = start(model=PlainConvs(), open_share=0.0)
    agree(gating, off=[2, 5, 7])

    def logits() -> torch.Tensor:
        gating.train()
        gating(images(4, size=8))
        return torch.cat([word.logits for _, word in gating.state._spoken], 1)

    keep = [i for i in range(64) if i not in (2, 5, 7)]
    gating.state.hold_open = False
    for wrapper in (m for m in gating.network.modules() if isinstance(m, Gated)):
        with torch.no_grad():  # the first head closes exactly what will be removed, the second opens all
            bias = torch.where(torch.isin(wrapper.head.units, torch.tensor([2, 5, 7])), -9.0, 9.0)
            wrapper.head.last.bias.copy_(bias)
            wrapper.head.last.weight.normal_()
            wrapper.head.first.weight.mul_(3.0 if wrapper.head.units[0] else 0.0)  # the second one looks at its input
    before = logits()[:, keep]
    assert gating._shrink(optimizer)
    assert gating.network.second.inner.in_channels == 29
    assert torch.allclose(logits(), before, atol=1e-5)


def test_costs_stay_fractions_of_the_dense_network():
    gating, optimizer = start(closed_layers="removed")
    dense = count_macs(SmallResidual(), images(2, size=8))
    agree(gating, off=[gating.structure.branches[0].unit, gating.structure.groups[3].start])
    open_before = gating.kept_cost()
    assert gating._shrink(optimizer)
    assert gating.kept_cost() == pytest.approx(open_before)
    small = copy.deepcopy(gating)
    small.logit_mean.fill_(100.0)  # all that is left is open
    assert small.kept_cost() == pytest.approx(sum(count(small, images(1, size=8)).layers.values()) / dense, abs=1e-6)


def test_what_the_budget_needs_is_never_removed():
    """All gates have agreed on "off", yet what is left can end on budget, and every group keeps a channel."""
    gating, optimizer = start()
    agree(gating, off=gating.gated.nonzero().flatten().tolist())
    gating.logit_mean.copy_(torch.randn(len(gating.run), generator=torch.Generator().manual_seed(0)))
    gating._project()
    assert gating._shrink(optimizer)
    assert float(gating.terms.cost((gating.decided != GONE).float())) >= 0.48
    for group in gating.structure.groups:
        layers = [layer for layer in gating.left.layers.values() if group.name == layer.name]
        assert all(len(layer.out_units) > 0 for layer in layers)
    gating.logit_mean.neg_()  # the ranking turns round, and still it can be met
    gating._cut(optimizer)
    assert (
        0.48 <= count_macs(gating.finish(), images(2, size=8)) / count_macs(SmallResidual(), images(2, size=8)) <= 0.5
    )


def test_a_gate_waits_for_its_patience_and_for_the_budget():
    decided = torch.tensor([UNDECIDED] * 6 + [OPEN, GONE])
    run = torch.tensor([-9, -10, -10, -10, 10, 10, 99, -99])
    now = torch.tensor([False, False, True, False, True, True, True, False])
    final = torch.tensor([False, False, False, True, True, False, True, False])
    closed, opened = agreed(decided, run, 10, now, final)
    assert closed.nonzero().flatten().tolist() == [1]
    assert opened.nonzero().flatten().tolist() == [4]


def test_agreement_counts_steps_in_a_row():
    run = torch.zeros(4, dtype=torch.int32)
    for consensus in ([0.05, 0.95, 0.5, 0.05], [0.05, 0.95, 0.5, 0.95], [0.05, 0.95, 0.05, 0.95]):
        run = agreement(run, torch.tensor(consensus), 0.1)
    assert run.tolist() == [-3, 3, -1, 2]


def test_nothing_is_opened_for_good_while_the_budget_tightens():
    gating, _ = start(settle_share=0.5)
    gating(images(2, size=8))
    gating.steps_done = 10
    gating.consensus.fill_(1.0)
    gating._average(*gating.state.take(gating.consensus, gating.logit_mean))
    assert (gating.run <= 0).all()
    gating.steps_done = gating.search_steps - 2
    gating.consensus.fill_(1.0)
    gating._average(*gating.state.take(gating.consensus, gating.logit_mean))
    assert (gating.run[gating.gated] == 1).all()


def test_the_tables_after_a_removal_are_those_of_a_new_trace():
    x = images(2)
    model = network("resnet20")
    structure = trace(model, x)
    keep = torch.rand(structure.units, generator=torch.Generator().manual_seed(0)) < 0.7
    for group in structure.groups:
        keep[group.start] = True
    left = remaining(structure, keep)
    again = trace(remove(model, structure, keep), x)
    numbers = present(left, structure.units).nonzero().flatten()  # of the new trace's units in the old numbering
    assert again.units == len(numbers)
    assert set(again.layers) == set(left.layers)
    for name, layer in again.layers.items():
        for new, old in ((layer.out_units, left.layers[name].out_units), (layer.in_units, left.layers[name].in_units)):
            assert torch.equal(torch.where(new < 0, new, numbers[new]), old)


def test_the_executed_macs_fall_as_units_are_removed():
    gating, optimizer = start(revisit_every=1)  # every layer runs: only removal saves
    macs = []
    train(gating, optimizer, range(gating.search_steps - 1), after=lambda _, n: macs.append(n))
    assert macs[0] == max(macs)
    assert macs[-1] < 0.95 * macs[0]
    assert sorted(macs, reverse=True) == macs


def test_a_masked_convolution_is_on_the_ledger():
    x = images(2, size=8)
    gating = ConsensusGating(PlainConvs(), x, keep=0.5, steps=10).train()
    heads = sum(h.first.weight.numel() + h.last.weight.numel() for h in gating.heads())
    with MacMeter() as meter:
        gating(x)
    assert meter.total == 2 * (count_macs(PlainConvs(), x) + heads)


def test_what_else_the_optimizer_holds_stays():
    gating, _ = start(closed_layers="removed")
    own = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([{"params": list(gating.parameters())}, {"params": [own]}], lr=0.05)
    agree(gating, off=[gating.structure.groups[3].start])
    assert gating._shrink(optimizer)
    gating._cut(optimizer)
    assert optimizer.param_groups[1]["params"][0] is own


def test_channels_wait_until_their_layer_has_decided_what_it_leaves():
    gating, optimizer = start(keep=0.6)
    branch = next(b for b in gating.structure.branches if b.remnant)
    group = next(g for g in gating.structure.groups if branch.unit in gating.structure.layers[g.name].branches)
    agree(gating, off=[group.start])
    assert not gating._shrink(optimizer)  # a remnant would need the channel
    agree(gating, off=[group.start], on=[branch.unit])
    assert gating._shrink(optimizer)  # the layer is open for good
    assert gating._shrink(optimizer)
    assert gating.decided[branch.unit] == OPEN
    assert gating.decided[group.start] == GONE


def test_the_same_seed_shrinks_alike():
    finals = []
    for _ in range(2):
        gating, optimizer = start()
        train(gating, optimizer, range(STEPS))
        finals.append(gating.finish().state_dict())
    assert finals[0].keys() == finals[1].keys()
    assert all(torch.equal(finals[0][k], finals[1][k]) for k in finals[0])


def test_the_record_keeps_the_numbering():
    gating, optimizer = start()
    train(gating, optimizer, range(gating.search_steps))
    history = gating.history()
    rows = {len(row) for name in history["channels"] for row in history["channels"][name]}
    assert rows == {12, 24}
    last = [c for rows in history["channels"].values() for c in rows[-1]]
    assert len(last) == int(gating.gated.sum()) - len(gating.structure.branches)
    assert {0.0, 1.0} <= set(last)


def test_the_record_says_how_many_gates_were_polarized_at_the_end_of_the_search():
    gating, optimizer = start()
    assert gating.history()["polarized_share"] is None
    units = gating.gated.nonzero().flatten()
    gating.consensus[units] = 0.5
    gating.consensus[units[:10]], gating.consensus[units[10:15]], gating.consensus[units[15]] = 0.05, 0.95, 0.11
    gating._cut(optimizer)
    assert gating.history()["polarized_share"] == pytest.approx(15 / len(units))


def test_a_network_whose_blocks_are_removed_from_the_outermost_module():
    class Flat(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.last = torch.nn.Linear(16, 10)
            self.b = torch.nn.Conv2d(16, 16, 3, padding=1)
            self.a = torch.nn.Conv2d(16, 16, 3, padding=1)
            self.stem = torch.nn.Conv2d(3, 16, 3, padding=1)

        def forward(self, x):
            x = F.relu(self.stem(x))
            x = x + F.relu(self.a(x))
            x = x + F.relu(self.b(x))
            return self.last(x.mean((2, 3)))

    gating, optimizer = start(model=Flat(), streams=True)
    order = [n for n, _ in gating.named_parameters()]
    agree(gating, off=[gating.structure.branches[0].unit])
    assert gating._shrink(optimizer)
    left = [n for n, _ in gating.named_parameters()]
    assert 0 < len(left) < len(order)
    normal = [n.replace(".inner", "") for n in order]
    places = [normal.index(n.replace(".inner", "")) for n in left]
    assert places == sorted(places)
    train(gating, optimizer, range(2))
