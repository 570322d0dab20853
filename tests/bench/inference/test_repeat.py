"""Repeating until a ratio is known: when it stops, in which order, and that shared noise does not matter."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from greenprune.bench.inference.repeat import Repeated, half_width, ratio_interval, repeat_rounds, repeat_until


class Machine:
    """Two things of which the first takes twice as long, on a machine whose speed wanders; `own` is noise of a block."""

    def __init__(self, own: float, shared: float = 0.5) -> None:
        self.random = random.Random(1)
        self.own, self.shared = own, shared
        self.order = ""
        self._speed = 1.0

    def measure(self, name: str, seconds: float) -> Callable[[], float]:
        def block() -> float:
            if len(self.order) % 2 == 0:
                self._speed = math.exp(self.random.gauss(0, self.shared))
            self.order += name
            return seconds * self._speed * math.exp(self.random.gauss(0, self.own))

        return block

    def run(self, **arguments) -> Repeated[float]:
        return repeat_until(self.measure("a", 2.0), self.measure("b", 1.0), float, **arguments)


def test_it_stops_when_the_interval_is_tight_and_the_truth_is_in_it() -> None:
    machine = Machine(own=0.05)
    found = machine.run(ci=0.02)
    assert found.reached
    assert found.half_width <= 0.02
    assert found.low <= 2.0 <= found.high
    assert 20 < found.pairs < 120  # 1.96 * 0.05 * sqrt(2) / sqrt(n) = 0.02 at n = 48
    assert len(machine.order) == 2 * found.pairs


def test_noise_that_both_share_needs_no_repeats() -> None:
    assert Machine(own=1e-4, shared=1.0).run(ci=0.02).pairs == 5


def test_tighter_takes_longer() -> None:
    assert Machine(own=0.05).run(ci=0.01).pairs > Machine(own=0.05).run(ci=0.04).pairs


def test_the_largest_number_of_pairs_is_a_limit_and_is_told() -> None:
    found = Machine(own=0.5).run(ci=0.001, max_pairs=17)
    assert (found.pairs, found.reached) == (17, False)


def test_the_time_is_a_limit_but_the_least_number_of_pairs_is_measured_all_the_same() -> None:
    found = Machine(own=0.5).run(ci=0.001, limit_s=0.0, min_pairs=7)
    assert (found.pairs, found.reached) == (7, False)


def test_both_are_measured_once_in_each_pair_in_an_order_that_the_seed_alone_decides() -> None:
    orders = []
    for seed in (0, 0, 1):
        machine = Machine(own=0.5)
        machine.run(ci=0.001, max_pairs=40, seed=seed)
        pairs = [machine.order[i : i + 2] for i in range(0, 80, 2)]
        assert set(pairs) == {"ab", "ba"}
        assert 8 <= pairs.count("ab") <= 32
        orders.append(machine.order)
    assert orders[0] == orders[1] != orders[2]


def test_blocks_may_be_anything_that_has_a_value() -> None:
    found = repeat_until(lambda: ("x", 3.0), lambda: ("y", 1.0), lambda block: block[1])
    assert (found.a[0], found.b[0], found.ratio) == (("x", 3.0), ("y", 1.0), pytest.approx(3.0))


@pytest.mark.parametrize(("least", "most"), [(1, 10), (11, 10)])
def test_limits_that_contradict_each_other_are_refused(least: int, most: int) -> None:
    with pytest.raises(ValueError, match="min_pairs"):
        Machine(own=0).run(min_pairs=least, max_pairs=most)


def test_a_value_that_gives_no_ratio_is_refused() -> None:
    with pytest.raises(ValueError, match="above zero"):
        repeat_until(lambda: 0.0, lambda: 1.0, float)


def test_an_exception_passes_through() -> None:
    def fail() -> float:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        repeat_until(fail, fail, float)


def test_half_width_is_the_further_end() -> None:
    assert half_width((2.0, 1.9, 2.3)) == pytest.approx(0.15)
    assert half_width((2.0, 1.5, 2.1)) == pytest.approx(0.25)


@pytest.mark.parametrize("count", [5, 8, 20])
def test_intervals_hold_the_truth_about_as_often_as_they_say(count: int) -> None:
    machine = Machine(own=0.1)
    a, b = machine.measure("a", 2.0), machine.measure("b", 1.0)
    held = 0
    for _ in range(1000):
        pairs = [(a(), b()) for _ in range(count)]
        _, low, high = ratio_interval(*zip(*pairs, strict=True))
        held += low <= 2.0 <= high
    assert 0.93 <= held / 1000 <= 0.97


# more than two


def test_every_round_has_each_once_and_ratios_are_to_the_last() -> None:
    machine = Machine(own=0.0)
    measures = [machine.measure(name, seconds) for name, seconds in (("a", 6.0), ("b", 3.0), ("c", 2.0))]
    machine._speed, machine.shared = 1.0, 0.0
    found = repeat_rounds(measures, float, min_rounds=30, max_rounds=30, seed=4)
    assert [ratio for ratio, _, _ in found.ratios] == pytest.approx([3.0, 1.5])
    assert (found.rounds, found.reached) == (30, True)
    rounds = [machine.order[i : i + 3] for i in range(0, 90, 3)]
    assert all(sorted(round_) == ["a", "b", "c"] for round_ in rounds)
    assert len(set(rounds)) == 6  # every order occurs


def test_it_goes_on_until_the_last_of_the_ratios_is_known() -> None:
    noisy, quiet = Machine(own=0.05), Machine(own=0.0, shared=0.0)
    found = repeat_rounds(
        [quiet.measure("a", 1.0), noisy.measure("b", 1.0), quiet.measure("c", 1.0)], float, ci=0.1, max_rounds=500
    )
    assert found.reached
    assert 5 < found.rounds < 500
    assert half_width(found.ratios[0]) < half_width(found.ratios[1]) <= 0.1


def test_a_single_thing_has_no_ratio() -> None:
    with pytest.raises(ValueError, match="two things"):
        repeat_rounds([lambda: 1.0], float)
