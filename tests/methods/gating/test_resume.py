"""Storing a search and going on with it: bit for bit the uninterrupted run."""

import copy
import io

import pytest
import torch
from greenprune.methods import ConsensusGating, GatingOptions
from greenprune.methods.gating import fading
from greenprune.methods.gating.shrinking import GONE

from tests.methods.gating.test_shrinking import STEPS, start, train
from tests.methods.networks import SmallResidual, images


def stored(gating, optimizer) -> dict:
    """Through a file, with the safe loader."""
    file = io.BytesIO()
    torch.save({"gating": gating.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(
    ("stop", "options"),
    [
        (3, {}),
        (45, {}),
        (45, {"closed_layers": "removed"}),
        (STEPS - 3, {}),
        (45, {"closed_layers": "removed", "execution": "per_sample"}),
    ],
    ids=["held open", "while layers fade", "after removals", "after the cut", "per sample"],
)
def test_a_resumed_run_ends_with_the_same_weights(stop, options):
    gating, optimizer = start(**options)
    train(gating, optimizer, range(stop))
    if options:
        assert (gating.decided == GONE).any()
    elif stop == 45:
        assert (fading.leaving(gating.structure, gating.decided) & ~gating._open()).any()
    state = stored(gating, optimizer)
    rms = gating.state.gradients.rms
    train(gating, optimizer, range(stop, STEPS))

    torch.manual_seed(99)
    again, _ = start(model=SmallResidual(), **options)
    again.load_state_dict(state["gating"])
    resumed = torch.optim.SGD(again.parameters(), lr=0.05, momentum=0.9)
    resumed.load_state_dict(state["optimizer"])
    assert again.state.gradients.rms == rms
    train(again, resumed, range(stop, STEPS))

    a, b = gating.finish().state_dict(), again.finish().state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert again.history() == gating.history()
    assert again.masked_max_abs_diff == gating.masked_max_abs_diff


def test_the_removal_of_layers_is_resumed_too():
    gating, optimizer = start()
    train(gating, optimizer, range(6))
    branch = gating.structure.branches[0]
    gating.decide(gating.decided.index_fill(0, torch.tensor([branch.unit]), GONE), optimizer)
    state = stored(gating, optimizer)
    again, _ = start()
    again.load_state_dict(state["gating"])
    assert [n for n, _ in again.named_parameters()] == [n for n, _ in gating.named_parameters()]
    resumed = torch.optim.SGD(again.parameters(), lr=0.05, momentum=0.9)
    resumed.load_state_dict(state["optimizer"])
    for g, o in ((gating, optimizer), (again, resumed)):
        train(g, o, range(6, 10))
    a, b = gating.state_dict(), again.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a if k != "_extra_state")


def test_the_state_loads_as_a_part_of_a_larger_module():
    gating, optimizer = start()
    train(gating, optimizer, range(45))
    again, _ = start()
    torch.nn.ModuleDict({"g": again}).load_state_dict(torch.nn.ModuleDict({"g": gating}).state_dict())
    assert again.steps_done == 45
    assert sum(p.numel() for p in again.parameters()) == sum(p.numel() for p in gating.parameters())


def test_a_state_made_with_other_arguments_is_refused():
    gating, _ = start()
    other, _ = start(keep=0.7)
    with pytest.raises(ValueError, match="other arguments: keep differ"):
        other.load_state_dict(gating.state_dict())


def test_what_was_removed_does_not_come_back():
    gating, optimizer = start()
    state = copy.deepcopy(gating.state_dict())
    gating.decide(gating.decided.index_fill(0, gating.gated.nonzero()[0], GONE), optimizer)
    with pytest.raises(ValueError, match="does not come back"):
        gating.load_state_dict(state)


def test_a_state_without_the_search_is_refused():
    gating = ConsensusGating(SmallResidual(), images(2, size=8), keep=0.5, steps=10, options=GatingOptions())
    state = {k: v for k, v in gating.state_dict().items() if k != "_extra_state"}
    with pytest.raises(RuntimeError, match="_extra_state"):
        gating.load_state_dict(state)
