"""The search on networks whose branches begin with a norm, end in any module, or add in another one."""

import pytest
import torch
from greenprune.methods import ConsensusGating, GatingOptions
from greenprune.methods.gating.wiring import unwrap
from greenprune.methods.structure.surgery import evaluate, remove

from tests.methods.block_networks import NETWORKS, network


@pytest.mark.parametrize("name", NETWORKS)
def test_the_gates_close_what_removal_takes_out(name):
    model, x = network(name)
    model.eval()
    dense = evaluate(model, x)
    gating = ConsensusGating(model, x, keep=1.0, steps=10, options=GatingOptions(closed_layers="removed"))
    assert torch.allclose(evaluate(gating, x), dense)  # nothing is closed
    gating.steps_done = 3
    structure, state = gating.structure, gating.state
    keep = torch.ones(structure.units, dtype=torch.bool)
    keep[[b.unit for b in structure.branches[::2]]] = False
    gating.logit_mean.copy_(torch.where(keep, 5.0, -5.0))
    skipped = evaluate(gating, x)
    closed = {b.unit for b in structure.branches[::2]}
    assert state.closed == closed  # really skipped, not masked
    skipped_few = evaluate(gating, x[:3])
    evaluate(gating, x[:3])
    state.skippable = set()
    masked = evaluate(gating, x)
    unwrap(gating.network)
    removed = remove(gating.network, structure, keep)
    for got, batch in ((skipped, x), (masked, x), (skipped_few, x[:3])):
        assert (got - evaluate(removed, batch)).abs().max() <= 1e-12


@pytest.mark.parametrize("execution", ["majority", "per_sample"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_whole_search(name, execution):
    model, x = network(name)
    gating = ConsensusGating(
        model.float(), x.float(), keep=0.6, tolerance=0.4, steps=12, options=GatingOptions(execution=execution)
    )
    optimizer = torch.optim.SGD(gating.parameters(), lr=0.01)
    half = gating.structure.branches[0].unit
    for step in range(12):
        batch = x.float()[: 4 - step % 2]
        loss = gating(batch).square().mean() + gating.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        gating.step(optimizer)
        if gating.searching:  # this branch closes on the way
            gating.logit_mean[half] = -5.0
    assert gating.masked_max_abs_diff <= 1e-4
    assert evaluate(gating.finish(), x.float()).shape == (4, 10)


def test_a_closed_branch_of_a_pre_norm_block_is_heard_and_comes_back():
    model, x = network("pre_norm")
    gating = ConsensusGating(model, x, keep=1.0, steps=100)
    branch = gating.structure.branches[0].unit
    wrapper = gating.network.get_submodule("blocks.0.norm1")
    assert wrapper.decided_branches == (branch,)  # the norm sees what comes into the branch
    assert wrapper.head.pooled(x.new_ones(4, 8, 16)).shape == (4, 16)
    gating.steps_done = 60
    gating.logit_mean[branch] = -5.0
    gating.state.hold_open = False
    gating.train()(x).sum().backward()
    assert wrapper.head.first.weight.grad is not None or branch in gating.state.closed
