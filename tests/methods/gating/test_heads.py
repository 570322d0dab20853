"""What is derived by hand in the heads, against PyTorch's own operations; and what is put off, against what is not."""

import copy

import pytest
import torch
import torch.nn.functional as F
from greenprune.methods import GatingOptions
from greenprune.methods.gating.gradients import GradientScale
from greenprune.methods.gating.heads import GateHead, Hearing
from greenprune.methods.gating.mathematics import binarize, majority, majority_needed, straight_through
from torch import Tensor

from tests.methods.gating.test_module import searched
from tests.methods.networks import batches, images

BATCH, FEATURES, UNITS, ALL = 6, 5, 4, 9
OWN = torch.tensor([6, 1, 2, 8])  # the units of the head, out of ALL


def head_and_features(removed: bool = False) -> tuple[GateHead, Tensor]:
    torch.manual_seed(0)
    head = GateHead(FEATURES, OWN, hidden=7, channel_dim=1)
    torch.nn.init.normal_(head.last.weight)
    features = FEATURES
    if removed:
        head.features_left = torch.tensor([0, 2, 4])
        features = 3
    return head, torch.randn(BATCH, features)


def scale_of(seed: int = 0) -> GradientScale:
    scale = GradientScale(torch.rand(ALL, generator=torch.Generator().manual_seed(seed)) + 0.5)
    scale.rms, scale.gain = 0.7, 0.3
    return scale


def composed(head: GateHead, pooled: Tensor, shift: Tensor, scale: GradientScale, gates: Tensor, needed: Tensor):
    """Gates, votes and logits as of a `Hearing`, of PyTorch's own operations."""
    logits = head(pooled) - shift
    p = torch.sigmoid(logits)
    votes = p.mean(0)
    own = straight_through(logits > needed, p) if needed.ndim == 2 else straight_through(votes > needed, votes)
    own.register_hook(lambda gradient: scale.scaled(gradient, head.units))
    return gates.index_copy(-1, head.units, own), votes, logits


def close(a: Tensor | None, b: Tensor | None) -> bool:
    return a is not None and b is not None and torch.allclose(a, b, rtol=1e-4, atol=1e-6) and bool(b.abs().max() > 0)


@pytest.mark.parametrize("removed", [False, True], ids=["all", "removed"])
@pytest.mark.parametrize("used", ["gates", "votes", "both"])
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("per_image", [False, True], ids=["majority", "per_sample"])
def test_a_decision_has_the_values_and_gradients_of_its_operations(per_image, autocast, used, removed):
    head, pooled = head_and_features(removed)
    shift, generator = torch.tensor(0.2), torch.Generator().manual_seed(1)
    needed = torch.randn(BATCH, UNITS, generator=generator) if per_image else torch.full((UNITS,), 0.45)
    weight = torch.randn(*((BATCH, ALL) if per_image else (ALL,)), generator=generator)
    results = []
    for by_hand in (True, False):
        scale, ones = scale_of(), torch.ones(weight.shape)
        head.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast and by_hand):
            if by_hand:
                hearing = Hearing([head], ones, torch.full((ALL,), 0.6), scale)
                (word,) = hearing.listen([(head, pooled)], shift)
                opened = hearing.decide(head, word, needed)
                gates, votes, logits = hearing.gates, hearing.votes.index_select(0, OWN), word.logits
                assert 0 < opened.sum() < opened.numel()
                assert torch.equal(gates.detach().index_select(-1, OWN), opened.float())
                others = [u for u in range(ALL) if u not in OWN]
                assert (gates[..., others] == 1.0).all()
                assert (hearing.votes[others] == 0.6).all()
            else:
                gates, votes, logits = composed(head, pooled, shift, scale, ones, needed)
            loss = torch.zeros(())
            if used != "votes":
                loss = loss + (gates * weight).sum()
            if used != "gates":
                loss = loss + (votes * torch.arange(1.0, 5.0)).sum()
            loss.backward()  # within autocast, where a user may well call it
        found = [gates.detach(), votes.detach(), logits.detach(), *(p.grad.clone() for p in head.parameters())]
        results.append(found if used == "votes" else [*found, scale.sums])
    for one, two in zip(*results, strict=True):
        assert close(one, two)


@pytest.mark.parametrize("per_image", [False, True], ids=["majority", "per_sample"])
def test_several_heads_learn_at_once_and_one_that_is_not_asked_does_not(per_image):
    """Held open: no head decides, all learn. Masks use a gate before, between and after the heads' words."""
    torch.manual_seed(0)
    heads = [GateHead(FEATURES, units, 7, 1) for units in (torch.tensor([4, 0]), torch.tensor([3, 5, 7]), OWN[3:])]
    pooled = [torch.randn(BATCH, FEATURES) for _ in heads[:2]]
    shift, ones = torch.tensor(0.1), torch.ones(*((BATCH, ALL) if per_image else (ALL,)))
    weight, results = torch.randn(3, *ones.shape), []
    for by_hand in (True, False):
        scale, gates = scale_of(), ones
        for head in heads:
            head.zero_grad()
        if by_hand:
            hearing = Hearing(heads, ones, torch.zeros(ALL), scale)
            gates = hearing.gates
            loss = (gates * weight[0]).sum()
            for i, (head, x) in enumerate(zip(heads, pooled, strict=False)):
                hearing.listen([(head, x)], shift)
                loss = loss + (gates * weight[i + 1]).sum()
        else:
            for head, x in zip(heads, pooled, strict=False):
                needed = torch.full((BATCH, len(head.units)) if per_image else (len(head.units),), -1e9)
                gates, _, _ = composed(head, x, shift, scale, gates, needed)
            loss = (gates * weight.sum(0)).sum()
        assert torch.equal(gates.detach(), ones)
        loss.backward()
        assert all(p.grad is None for p in heads[2].parameters())
        results.append([scale.sums, *(p.grad.clone() for head in heads[:2] for p in head.parameters())])
    for one, two in zip(*results, strict=True):
        assert close(one, two)


def test_where_gates_do_not_teach_votes_still_do():
    head, pooled = head_and_features()
    hearing = Hearing([head], torch.ones(ALL), torch.zeros(ALL), scale_of(), gates_teach=False)
    hearing.listen([(head, pooled)], torch.zeros(()))
    assert not hearing.gates.requires_grad
    hearing.votes.sum().backward()
    assert close(head.last.bias.grad, (p := torch.sigmoid(head(pooled))).mul(1 - p).mean(0).detach())


@pytest.mark.parametrize("memory", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("noisy", [False, True])
def test_the_vote_needed_is_where_its_logit_with_memory_and_noise_is_zero(memory, noisy):
    generator = torch.Generator().manual_seed(0)
    votes = torch.rand(1000, generator=generator)
    standing = 2.0 * torch.randn(1000, generator=generator)
    noise = torch.randn(1000, generator=generator) if noisy else None
    pulled = torch.lerp(torch.logit(votes), standing, memory) + (0.0 if noise is None else noise)
    opened = votes > majority_needed(standing, memory, noise)
    clear = pulled.abs() > 1e-4
    assert torch.equal(opened[clear], (pulled > 0)[clear])
    assert 0 < opened.sum() < 1000
    assert torch.equal(majority(votes, noise, standing=standing, memory=memory), opened.float())


def test_a_saturated_vote_does_not_overrule_a_final_choice():
    votes, standing = torch.tensor([1.0, 0.0]), torch.tensor([-4.0, 4.0])
    assert (votes > majority_needed(standing, 1.0)).tolist() == [False, True]


def test_per_sample_gates_are_those_of_binarize():
    head, pooled = head_and_features()
    noise = torch.randn(BATCH, UNITS)
    hearing = Hearing([head], torch.ones(BATCH, ALL), torch.zeros(ALL), scale_of())
    hearing.decide(head, hearing.listen([(head, pooled)], torch.zeros(()))[0], -noise)
    assert torch.equal(hearing.gates.detach()[:, OWN], binarize(head(pooled).detach(), noise))


@pytest.mark.parametrize(
    ("shape", "channel_dim"),
    [((3, 8, 8), 1), ((3, 5, 7), 1), ((3, 2, 1), 1), ((3, 1, 1), 1), ((8, 8, 3), -1), ((6, 3), -1)],
)
@pytest.mark.parametrize("channels_last", [False, True])
def test_features_are_pooled_over_a_part_of_the_pixels(shape, channel_dim, channels_last):
    x = torch.randn(2, *shape)
    if channels_last and x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    head = GateHead(3, OWN, 7, channel_dim)
    by_channel = torch.arange(3.0).view(3, *[1] * (len(shape) - 1) if channel_dim == 1 else ())
    assert torch.allclose(head.pooled(torch.ones_like(x) * by_channel), torch.arange(3.0).expand(2, 3))
    assert not head.pooled(x.requires_grad_()).requires_grad  # heads do not teach the features


@pytest.mark.parametrize("layout", ["rows", "channels_last", "trailing"])
def test_the_part_stands_for_the_whole(layout):
    x = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) + torch.arange(3.0).view(3, 1, 1)
    whole = x.mean([2, 3])
    x = x.permute(0, 2, 3, 1).contiguous() if layout == "trailing" else x
    x = x.contiguous(memory_format=torch.channels_last) if layout == "channels_last" else x
    part = GateHead(3, OWN, 7, -1 if layout == "trailing" else 1).pooled(x)
    assert 0 < (part - whole).abs().max() < 0.12  # a quarter of 4,096 pixels: a standard error of 0.03


def after_one_step(gating, memory: float) -> list[Tensor]:
    gating = copy.deepcopy(gating)
    gating.train()
    gating.state.memory = memory
    x, y = batches(1, batch=8, size=16)[0]
    output = gating(x)
    (F.cross_entropy(output, y) + gating.penalty()).backward()
    gradients = [p.grad for p in gating.parameters() if p.grad is not None]
    return [output.detach(), *gradients, *gating.state.take(gating.consensus, gating.logit_mean)]


@pytest.mark.parametrize("visit", [False, True])
def test_a_final_choice_trains_the_same_whether_heads_are_heard_first_or_last(visit):
    gating = searched(GatingOptions(search_share=1.0, shrink=False), until=36)
    assert gating.chosen is not None
    assert 0 < gating.chosen[gating.gated].sum() < gating.gated.sum()
    gating.eval()(images(2, size=16))
    gating.state.visit_closed = visit
    gating.chosen[gating.structure.branches[3].unit] = False  # a layer is closed
    last, first = after_one_step(gating, 1.0), after_one_step(gating, 1.0 - 1e-6)
    assert len(first) == len(last)
    for one, two in zip(first, last, strict=True):
        assert torch.allclose(one, two, rtol=1e-3, atol=1e-5)
