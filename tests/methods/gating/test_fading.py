"""A branch that closes and leaves something fades: it runs on, and what will not stay goes step by step."""

import pytest
import torch
import torch.nn.functional as F
from greenprune.bench import models
from greenprune.methods import ConsensusGating, GatingOptions
from greenprune.methods.gating import fading
from greenprune.methods.gating.shrinking import GONE, OPEN
from greenprune.methods.structure.remnant import staying
from greenprune.methods.structure.surgery import evaluate
from torch import nn

from tests.methods.networks import batches, images

STEPS, RELEASE, BRANCH = 40, 20, "layer2.1"


def searched(until: int, *, rate: float = 0.0, **options: object) -> tuple[ConsensusGating, torch.optim.Optimizer]:
    """After `until` of 40 steps of a search that closes `BRANCH` as soon as its gates are released."""
    torch.manual_seed(0)
    options = {"search_share": 1.0, "open_share": RELEASE / STEPS, "settle_share": 0.2, "drift": 1e-6, **options}
    gating = ConsensusGating(
        models.build("resnet20", 10, seed=0), batches(1)[0][0], keep=0.5, steps=STEPS, options=GatingOptions(**options)
    )
    optimizer = torch.optim.SGD(gating.parameters(), lr=rate, momentum=0.9 if rate else 0.0)
    go_on(gating, optimizer, range(until))
    return gating, optimizer


def go_on(gating: ConsensusGating, optimizer: torch.optim.Optimizer, steps: range) -> None:
    gating.train()
    data = batches(STEPS)
    for i in steps:
        optimizer.zero_grad()
        (F.cross_entropy(gating(data[i][0]), data[i][1]) + gating.penalty()).backward()
        optimizer.step()
        if i + 1 >= RELEASE and gating.chosen is None:
            gating.logit_mean[unit(gating)] = -50.0  # its gate is the first to close
        gating.step(optimizer)


def unit(gating: ConsensusGating) -> int:
    return next(b.unit for b in gating.structure.branches if b.name == BRANCH)


def kernel(gating: ConsensusGating, name: str = "conv2") -> torch.Tensor:
    module = gating.network.get_submodule(f"{BRANCH}.{name}")
    return getattr(module, "inner", module).weight.detach().clone()


def test_what_will_not_stay_shrinks_evenly_to_nothing_and_the_rest_stays() -> None:
    gating, optimizer = searched(RELEASE)
    full = {"conv1": kernel(gating, "conv1"), "conv2": kernel(gating)}
    seen = []
    for i in range(RELEASE, STEPS - 1):
        go_on(gating, optimizer, range(i, i + 1))
        for name, taps in (("conv1", "own"), ("conv2", "both")):
            stays = staying(full[name], taps)
            now = kernel(gating, name)
            assert torch.equal(now[stays], full[name][stays])
            seen.append(float((now[~stays] / full[name][~stays]).mean()))
    closed_since = next(i for i, share in enumerate(seen) if share < 1.0)
    assert closed_since <= 8
    drops = -torch.tensor(seen[closed_since::2]).diff()
    torch.testing.assert_close(drops, drops[:1].expand_as(drops), rtol=1e-3, atol=1e-5)
    assert seen[-1] == pytest.approx(float(drops[0]), rel=0.01)  # one more step to 0, which is the cut's


def test_it_runs_in_training_and_is_judged_without_what_will_go() -> None:
    gating, _ = searched(STEPS - 10)
    assert not gating._open()[unit(gating)]
    called = []
    module = gating.network.get_submodule(f"{BRANCH}.conv2")
    getattr(module, "inner", module).register_forward_hook(lambda *_: called.append(1))
    x = images(4, size=16)
    gating.train()
    gating(x)
    assert called
    before = evaluate(gating, x)
    weight = getattr(module, "inner", module).weight
    with torch.no_grad():
        weight.mul_(torch.where(staying(weight, "both"), 1.0, 7.0))
    assert torch.equal(evaluate(gating, x), before)


def test_all_of_its_channels_run_and_those_of_open_branches_as_voted() -> None:
    gating, _ = searched(STEPS - 10)
    opened = torch.ones(gating.structure.units, dtype=torch.bool)
    opened[unit(gating)] = False
    runs = fading.executed(gating.structure, gating.decided, opened)
    inside = gating.structure.channels_inside(unit(gating))
    other = next(b for b in gating.structure.branches if b.name == "layer2.2")
    assert runs[inside].all()
    assert runs[other.unit]
    assert not runs[gating.structure.channels_inside(other.unit)].any()


def test_it_is_not_removed_before_it_has_faded() -> None:
    gating, optimizer = searched(STEPS - 10, shrink=False)
    gating.run[unit(gating)] = -10_000  # all images have agreed for long
    gating._shrink(optimizer)
    assert gating.decided[unit(gating)] not in (GONE, OPEN)


def test_the_cut_takes_nothing_that_still_does_something() -> None:
    gating, optimizer = searched(STEPS - 1, rate=0.01)
    scale = gating.network.get_submodule(f"{BRANCH}.bn2")
    scale = getattr(scale, "inner", scale)
    go_on(gating, optimizer, range(STEPS - 1, STEPS))
    block = gating.finish().get_submodule(BRANCH)
    assert isinstance(block.conv2.centre, nn.Conv2d)
    assert torch.equal(block.bn2.weight, scale.weight)
    assert float(scale.weight.detach().abs().min()) > 0.5  # the branch never stopped
    assert gating.masked_max_abs_diff <= 1e-5


def test_a_search_that_is_resumed_fades_alike() -> None:
    straight, _ = searched(STEPS, rate=0.05)
    half, optimizer = searched(STEPS - 10, rate=0.05)
    state, of_optimizer = half.state_dict(), optimizer.state_dict()
    again, _ = searched(0, rate=0.05)
    again.load_state_dict(state)
    second = torch.optim.SGD(again.parameters(), lr=0.05, momentum=0.9)
    second.load_state_dict(of_optimizer)
    go_on(again, second, range(STEPS - 10, STEPS))
    expected, got = straight.finish().state_dict(), again.finish().state_dict()
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
