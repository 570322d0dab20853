import pytest
import torch
from greenprune.bench.training.ledger import Ledger, OverdrawnError
from greenprune.bench.training.schedule import cycles, phase_at, rate_at
from greenprune.methods import Phase

TWO_CYCLES = (Phase("train", 0.6, peak=1.0), Phase("fine-tune", 0.4, peak=0.2))
ONE_CYCLE = (Phase("search", 0.5, peak=1.0), Phase("train", 0.5))


def test_warm_up_then_decay_to_nothing():
    (cycle,) = cycles((Phase("train", 1.0, peak=1.0),), steps=100, learning_rate=0.4, warmup_steps=10)
    rates = [rate_at([cycle], step, "cosine") for step in range(100)]
    assert rates[:10] == pytest.approx([0.04 * i for i in range(1, 11)])
    assert rates[10] == pytest.approx(0.4)
    assert rates[55] == pytest.approx(0.2)
    assert rates == [*rates[:11], *sorted(rates[11:], reverse=True)]
    assert 0 < rates[-1] < 0.001


def test_linear_decay_is_a_straight_line():
    made = cycles((Phase("train", 1.0, peak=1.0),), steps=10, learning_rate=1.0, warmup_steps=0)
    assert [rate_at(made, s, "linear") for s in range(10)] == pytest.approx([1 - s / 10 for s in range(10)])


def test_a_phase_with_a_peak_starts_a_cycle_without_warm_up():
    made = cycles(TWO_CYCLES, steps=100, learning_rate=0.1, warmup_steps=5)
    assert rate_at(made, 59, "cosine") < 0.001
    assert rate_at(made, 60, "cosine") == pytest.approx(0.02)


def test_a_phase_without_a_peak_goes_on_with_the_cycle():
    one = cycles((Phase("train", 1.0, peak=1.0),), steps=100, learning_rate=0.1, warmup_steps=5)
    assert cycles(ONE_CYCLE, steps=100, learning_rate=0.1, warmup_steps=5) == one


def test_every_step_belongs_to_one_phase():
    assert [phase_at(TWO_CYCLES, 10, s).name for s in range(10)] == ["train"] * 6 + ["fine-tune"] * 4


def test_the_ledger_adds_up_by_phase():
    ledger = Ledger(allowance_samples=30)
    ledger.charge("search", samples=10, forward_macs=100)
    ledger.charge("search", samples=10, forward_macs=90)
    ledger.charge("train", samples=10, forward_macs=50)
    stored = ledger.stored()
    assert (stored.samples, stored.forward_macs) == (30, 240)
    assert [(e.phase, e.samples) for e in stored.entries] == [("search", 20), ("train", 10)]


def test_overdrawing_the_ledger_is_an_error():
    ledger = Ledger(allowance_samples=15)
    ledger.charge("train", samples=10, forward_macs=0)
    with pytest.raises(OverdrawnError, match="10 samples after 10 of 15"):
        ledger.charge("fine-tune", samples=10, forward_macs=0)
    assert ledger.samples == 10


def test_one_cycle_is_that_of_torch():
    made = cycles((Phase("train", 1.0, peak=1.0),), steps=40, learning_rate=0.3, warmup_steps=5)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.3, total_steps=40, cycle_momentum=False)
    for step in range(40):
        assert rate_at(made, step, "one-cycle") == pytest.approx(theirs.get_last_lr()[0], rel=1e-6), step
        optimizer.step()
        theirs.step()


def test_one_cycle_of_any_length_stays_below_its_peak():
    for steps in range(1, 12):
        made = cycles((Phase("train", 1.0, peak=1.0),), steps=steps, learning_rate=1.0, warmup_steps=0)
        assert all(0.0 < rate_at(made, step, "one-cycle") <= 1.0 for step in range(steps))


def test_steps_fall_by_their_factor_in_each_cycle_after_the_warm_up():
    made = cycles(TWO_CYCLES, steps=100, learning_rate=1.0, warmup_steps=10)
    rates = [rate_at(made, step, "step", (0.5, 0.75), 0.1) for step in range(100)]
    assert rates[4] == pytest.approx(0.5)
    expected = [(29, 1.0), (30, 0.1), (44, 0.1), (45, 0.01), (59, 0.01), (60, 0.2), (79, 0.2), (80, 0.02), (90, 0.002)]
    for step, rate in expected:
        assert rates[step] == pytest.approx(rate), step
