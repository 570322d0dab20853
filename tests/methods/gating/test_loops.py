"""The training loops that people have: as documented, with accumulated gradients, in bf16, compiled, in processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from greenprune.methods import ConsensusGating, count_macs
from greenprune.methods.structure.surgery import evaluate

from tests.methods.gating.test_shrinking import STEPS, start
from tests.methods.networks import SmallResidual, batches, images

ROOT = Path(__file__).parents[3]


def test_the_loop_of_the_documentation():
    torch.manual_seed(0)
    model, loader, total_steps = SmallResidual(), batches(12, size=8), 12
    example_inputs = images(2, size=8)
    dense = count_macs(model, example_inputs)

    gating = ConsensusGating(model, example_inputs, keep=0.5, cost="macs", steps=total_steps)
    optimizer = torch.optim.SGD(gating.parameters(), lr=0.1, momentum=0.9)
    for x, y in loader:
        loss = F.cross_entropy(gating(x), y) + gating.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        gating.step(optimizer)
    small = gating.finish()

    assert 0.48 <= count_macs(small, example_inputs) / dense <= 0.5
    assert type(small) is SmallResidual


@pytest.mark.parametrize("cost", ["time", "MACs", ""])
def test_an_unknown_cost_is_refused(cost):
    with pytest.raises(ValueError, match=r"cost = .*allowed "):
        ConsensusGating(SmallResidual(), images(2, size=8), keep=0.5, cost=cost, steps=10)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="steps = 0: allowed is at least 1"):
        ConsensusGating(SmallResidual(), images(2, size=8), keep=0.5, steps=0)


@pytest.mark.parametrize("shape", [(2, 5, 8, 8), (0, 3, 8, 8), (3,), (2, 3)])
def test_example_inputs_of_the_wrong_shape_are_named(shape):
    with pytest.raises(ValueError, match="example_inputs"):
        ConsensusGating(SmallResidual(), torch.zeros(shape), keep=0.5, steps=10)


def test_a_compiled_model_is_refused():
    with pytest.raises(ValueError, match="compile the gating instead"):
        ConsensusGating(torch.compile(SmallResidual()), images(2, size=8), keep=0.5, steps=10)


def test_the_votes_of_all_batches_of_a_step_count():
    """Two halves, accumulated, are one batch (batch norm in eval mode: it alone sees the halves)."""
    x, y = batches(1, batch=16, size=8)[0]
    results = []
    for parts in (1, 2):
        gating, optimizer = start(open_share=0.0, noise=0.0)
        gating.train()
        for module in gating.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        gating.state.hold_open = True  # what the halves execute may differ, what they vote must add up
        for _ in range(3):
            optimizer.zero_grad()
            for x_, y_ in zip(x.chunk(parts), y.chunk(parts), strict=True):
                ((F.cross_entropy(gating(x_), y_) + gating.penalty()) / parts).backward()
            optimizer.step()
            gating.step(optimizer)
            gating.state.hold_open = True
        results.append((gating.logit_mean, gating.consensus, torch.tensor(gating.state.gradients.rms)))
    for one, two in zip(*results, strict=True):
        assert torch.allclose(one, two, rtol=1e-3, atol=1e-4)
    assert results[0][2] > 0


def test_forward_passes_without_gradient_do_not_vote():
    gating, optimizer = start(noise=0.0)
    gating.train()
    before = gating.logit_mean.clone()
    with torch.no_grad():
        gating(images(4, size=8))
    gating.step(optimizer)
    assert torch.allclose(gating.logit_mean, before)
    assert gating.state.gradients.rms == 0.0


def test_bfloat16_autocast():
    gating, optimizer = start()
    gating.train()
    for x, y in batches(STEPS, size=8):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = gating(x)
        assert logits.dtype == torch.bfloat16
        (F.cross_entropy(logits.float(), y) + gating.penalty()).backward()
        optimizer.step()
        gating.step(optimizer)
    assert gating.consensus.dtype == gating.logit_mean.dtype == torch.float32
    assert gating.masked_max_abs_diff <= 1e-4
    assert (
        0.48 <= count_macs(gating.finish(), images(2, size=8)) / count_macs(SmallResidual(), images(2, size=8)) <= 0.5
    )


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of torch's compiler itself
def test_compiled_gating_learns_the_same_and_is_compiled_as_a_whole_after_the_cut():
    compiled_frames = []

    def backend(module, inputs):
        compiled_frames.append(module)
        return module.forward

    finals = []
    for compiled in (False, True):
        torch._dynamo.reset()
        gating, optimizer = start(search_share=0.7)
        network = torch.compile(gating, backend=backend) if compiled else gating
        network.train()
        for x, y in batches(STEPS, size=8):
            optimizer.zero_grad()
            (F.cross_entropy(network(x), y) + gating.penalty()).backward()
            optimizer.step()
            gating.step(optimizer)
        finals.append(gating.finish())
    a, b = (f.state_dict() for f in finals)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert 1 <= len(compiled_frames) <= 2  # one graph for the whole network that is left
    x = images(2, size=8)
    assert torch.allclose(evaluate(network, x), evaluate(finals[1], x), atol=1e-6)


RANK = """
import os, sys
import torch, torch.distributed as dist, torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel
from tests.methods.networks import batches
from tests.methods.gating.test_shrinking import STEPS, start

torch.set_num_threads(1)
folder, wrap_again = sys.argv[1], sys.argv[2] == "again"
rank = int(os.environ["RANK"])
dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
gating, optimizer = start(seed=0)
def wrapped():
    return DistributedDataParallel(gating, find_unused_parameters=True)
ddp = wrapped().train()
shrunk = 0
for x, y in batches(STEPS, batch=16, size=8):
    x, y = x[rank::2], y[rank::2]
    optimizer.zero_grad()
    (F.cross_entropy(ddp(x), y) + gating.penalty()).backward()
    optimizer.step()
    replaced = gating.step(optimizer)
    if replaced and wrap_again:
        shrunk += gating.searching
        ddp = wrapped().train()
# Votes of different images: without sharing, means, scales and decisions would differ.
torch.save({
    "parameters": dict(gating.finish().named_parameters()), "decided": gating.decided, "logit_mean": gating.logit_mean,
    "rms": gating.state.gradients.rms, "noise": gating.state.generator.get_state(), "history": gating.history(),
    "shrunk": shrunk,
}, f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


def ranks(folder: Path, wrap: str) -> list[tuple[int, str]]:
    """Run two processes; exit status and stderr of each."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", RANK, str(folder), wrap],
            env={**environment, "RANK": str(rank)},
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        return [(p.wait(250), p.stderr.read()) if p.stderr else (1, "") for p in running]
    finally:
        for p in running:
            p.kill()
            p.communicate()


def test_two_processes_decide_alike(tmp_path):
    assert [(code, error[-3000:]) for code, error in ranks(tmp_path, "again") if code] == []
    a, b = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert a["shrunk"] > 0
    assert a["shrunk"] == b["shrunk"]
    assert torch.equal(a["decided"], b["decided"])
    assert torch.equal(a["logit_mean"], b["logit_mean"])
    assert torch.equal(a["noise"], b["noise"])
    assert a["rms"] == b["rms"]
    assert a["history"] == b["history"]
    assert a["parameters"].keys() == b["parameters"].keys()
    assert all(torch.equal(a["parameters"][k], b["parameters"][k]) for k in a["parameters"])


def test_a_process_that_is_not_wrapped_again_is_noticed(tmp_path):
    for code, error in ranks(tmp_path, "never"):
        assert code != 0
        assert "wrap the gating in DistributedDataParallel again" in error
