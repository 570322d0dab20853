import math

import pytest
import torch
from greenprune.methods.gating.mathematics import (
    annealed,
    binarize,
    budget_loss,
    logistic_noise,
    majority,
    polarization_loss,
    prior_logits,
    straight_through,
    threshold,
)


def test_binarize_is_a_step_forward_and_a_sigmoid_backward():
    z = torch.tensor([-2.0, -0.1, 0.1, 2.0], requires_grad=True)
    g = binarize(z)
    assert g.tolist() == [0, 0, 1, 1]
    g.sum().backward()
    p = torch.sigmoid(z.detach())
    assert torch.allclose(z.grad, p * (1 - p))


def test_noise_opens_gates_as_often_as_their_probability_says():
    z = torch.full((40_000,), 1.0)
    g = binarize(z, logistic_noise(z.shape, 1.0, torch.Generator().manual_seed(0)))
    assert float(g.mean()) == pytest.approx(1 / (1 + math.exp(-1)), abs=0.01)


def test_majority_follows_the_vote_and_passes_the_gradient_on():
    votes = torch.tensor([0.49, 0.51], requires_grad=True)
    g = majority(votes)
    assert g.tolist() == [0, 1]
    (g * torch.tensor([3.0, 5.0])).sum().backward()
    assert votes.grad.tolist() == [3, 5]


def test_a_batch_with_a_memory_executes_what_the_batches_before_it_voted_for():
    votes = torch.tensor([0.4, 0.6], requires_grad=True)
    standing = torch.tensor([3.0, -3.0])
    assert majority(votes, standing=standing, memory=0.0).tolist() == [0, 1]
    g = majority(votes, standing=standing, memory=1.0)
    assert g.tolist() == [1, 0]
    g.sum().backward()
    assert votes.grad.tolist() == [1, 1]
    assert majority(votes, standing=standing, memory=0.05).tolist() == [
        0,
        1,
    ]  # logits of 0.4 and 0.6 are -0.41 and 0.41


def test_noise_overrules_a_majority_as_often_as_the_vote_says():
    votes = torch.full((40_000,), 0.7)
    g = majority(votes, logistic_noise(votes.shape, 1.0, torch.Generator().manual_seed(0)))
    assert float(g.mean()) == pytest.approx(0.7, abs=0.01)


def test_straight_through_takes_one_value_and_the_other_gradient():
    soft = torch.tensor([0.3], requires_grad=True)
    hard = straight_through(torch.tensor([True]), soft)
    assert hard.item() == 1.0
    hard.backward()
    assert soft.grad.item() == 1.0


@pytest.mark.parametrize(("votes", "expected"), [([0.0, 1.0, 1.0], 0.0), ([0.5, 0.5], 0.25), ([0.1, 1.0], 0.045)])
def test_polarization_loss_is_zero_exactly_when_all_agree(votes, expected):
    assert float(polarization_loss(torch.tensor(votes))) == pytest.approx(expected)


def test_budget_loss_is_one_sided_unless_asked():
    assert float(budget_loss(torch.tensor(0.7), 0.5)) == pytest.approx(0.04)
    assert float(budget_loss(torch.tensor(0.3), 0.5)) == 0.0
    assert float(budget_loss(torch.tensor(0.3), 0.5, two_sided=True)) == pytest.approx(0.04)


def test_annealing_goes_from_start_to_end_and_stays():
    assert [annealed(t, 1.0, 0.5) for t in (-1, 0, 0.5, 1, 2)] == pytest.approx([1, 1, 0.75, 0.5, 0.5])


def test_the_threshold_is_the_lowest_that_meets_the_target():
    cost = lambda openness: openness @ torch.tensor([0.4, 0.3, 0.2, 0.1])  # noqa: E731
    scores = torch.tensor([4.0, 3.0, 2.0, 1.0])
    undecided, opened = torch.tensor([True, True, True, False]), torch.tensor([False, False, False, True])
    assert (
        float(threshold(cost, scores, undecided, opened, 0.85)) == 2.5
    )  # the unit of 0.2 closes, half-way to the next
    assert float(threshold(cost, scores, undecided, opened, 0.75)) == 3.5
    assert threshold(cost, scores, torch.zeros(4, dtype=torch.bool), opened, 0.5) is None


@pytest.mark.parametrize("seed", range(40))
def test_where_the_search_for_the_threshold_begins_changes_nothing(seed):
    generator = torch.Generator().manual_seed(seed)
    units = int(torch.randint(1, 200, (), generator=generator))
    scores = torch.randn(units, generator=generator).round(decimals=2)  # some are equal
    undecided = torch.rand(units, generator=generator) < 0.8
    opened = (torch.rand(units, generator=generator) < 0.3) & ~undecided
    weights = torch.rand(units, generator=generator)
    target = 1.1 * float(torch.rand((), generator=generator)) - 0.05  # some cannot be met

    def found(near: float | None) -> torch.Tensor | None:
        return threshold(lambda is_open: is_open @ weights / weights.sum(), scores, undecided, opened, target, near)

    expected = found(None)
    for near in (-9.0, 0.0, 9.0, 0.0 if expected is None else float(expected)):
        assert found(near) == expected


def test_the_search_for_the_threshold_is_short_where_it_begins_near():
    everything, calls = torch.ones(256, dtype=torch.bool), []

    def cost(openness):
        calls.append(1)
        return openness.mean()

    found = threshold(cost, torch.arange(256.0), everything, ~everything, 0.3)
    assert len(calls) == 8
    for near, most in ((found, 2), (found + 1.0, 4), (found - 1.0, 4)):
        calls.clear()
        assert threshold(cost, torch.arange(256.0), everything, ~everything, 0.3, float(near)) == found
        assert len(calls) <= most


def test_prior_logits_keep_the_order_and_have_the_spread_asked_for():
    benefit = torch.tensor([1e-6, 1e-4, 1e-2, 1.0, 100.0])
    logits = prior_logits(benefit, 2.0, 0.5)
    assert (logits.diff() > 0).all()
    assert logits.mean() == pytest.approx(2.0, abs=1e-5)
    assert logits.std(unbiased=False) == pytest.approx(0.5, abs=1e-5)
    assert torch.allclose(prior_logits(benefit * 1000, 2.0, 0.5), logits, atol=1e-5)  # whatever the loss is scaled by


def test_prior_logits_of_equals_are_equal_and_outliers_are_bounded():
    assert (prior_logits(torch.ones(4), 2.0, 0.5) == 2.0).all()
    outlier = torch.cat([torch.linspace(1.0, 1.1, 200), torch.tensor([1e-30])])
    assert prior_logits(outlier, 2.0, 0.5).min() == pytest.approx(0.5)
