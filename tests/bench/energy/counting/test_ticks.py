"""The period of a counter, followed by looks alone, on clocks and counters that are made up."""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Callable

import pytest
from greenprune.bench.energy.counting.ticks import TickNotes, TickWatch


def regular(period_s: float) -> Callable[[float], float]:
    return lambda time_s: math.floor(time_s / period_s)


def changing(*parts: tuple[float, float]) -> Callable[[float], float]:
    """Updated every `parts[i][1]` seconds from `parts[i][0]` on."""

    def value(time_s: float) -> float:
        from_s, period_s = [part for part in parts if part[0] <= time_s][-1]
        return from_s + math.floor((time_s - from_s) / period_s + 1e-9) * period_s

    return value


def irregular(longest_s: float) -> Callable[[float], float]:
    random.seed(3)
    times_s = [0.0]
    while times_s[-1] < 1000:
        times_s.append(times_s[-1] + random.uniform(0.02, longest_s))
    return lambda time_s: bisect.bisect_right(times_s, time_s)


def followed(value, watch: TickWatch, start_s: float, end_s: float, every_s: float = 0.1) -> TickNotes:
    """Look from `start_s` to `end_s`, with the jitter of a thread that sleeps."""
    notes = TickNotes()
    random.seed(1)
    time_s = start_s
    while time_s < end_s:
        watch.look(time_s, value(time_s), notes)
        time_s += every_s * random.uniform(1.0, 1.04)
    return notes


@pytest.mark.parametrize("period_s", [0.01, 0.02, 0.1, 0.5, 1.0])
def test_a_period_that_does_not_change_is_kept_and_never_doubted(period_s: float) -> None:
    watch = TickWatch(period_s)
    notes = followed(regular(period_s), watch, 0.0, 60.0)
    assert watch.period_s == period_s
    assert (notes.still_s, notes.interval_s) == (0.0, 0.0)


@pytest.mark.parametrize(("before_s", "after_s"), [(0.1, 1.0), (0.1, 0.3), (0.01, 1.0), (0.1, 0.16), (0.5, 2.0)])
def test_a_counter_that_becomes_slower_is_noticed_and_its_new_period_found(before_s: float, after_s: float) -> None:
    watch = TickWatch(before_s)
    followed(regular(before_s), watch, 0.0, 5.0)
    notes = followed(changing((0.0, before_s), (5.0, after_s)), watch, 5.0, 20.0)
    assert notes.interval_s >= after_s * 0.999
    assert after_s * 0.999 <= watch.period_s <= after_s + 0.25


def test_a_counter_that_becomes_quicker_is_believed_after_some_updates() -> None:
    watch = TickWatch(1.0)
    followed(changing((0.0, 1.0), (5.0, 0.1)), watch, 0.0, 10.0)
    assert 0.1 <= watch.period_s <= 0.35
    assert TickWatch(1.0).period_s == 1.0


def test_of_irregular_updates_the_longest_counts() -> None:
    watch = TickWatch(0.1)
    notes = followed(irregular(0.6), watch, 0.0, 60.0)
    assert max(notes.interval_s, watch.period_s) >= 0.5


def test_how_old_a_counter_is_follows_from_the_looks_alone() -> None:
    watch, notes = TickWatch(0.1), TickNotes()
    for i in range(31):  # moves until 1.0 s, then never again
        watch.look(i / 10, min(i, 10), notes)
    assert watch.stale_s(3.0) == pytest.approx(2.1)
    assert watch.known_s(3.0) == pytest.approx(2.1)
    assert notes.still_s == pytest.approx(2.0)
    fresh = TickWatch(0.1)
    fresh.look(0.0, 1.0, notes)
    assert fresh.stale_s(0.0) == 0.1
    assert fresh.known_s(0.0) == math.inf


def test_a_long_time_without_a_look_says_nothing_of_the_period() -> None:
    watch, notes = TickWatch(0.1), TickNotes()
    for i in range(20):
        watch.look(i / 10, i, notes)
    watch.look(1000.0, 5000, notes)
    watch.look(1000.1, 5001, notes)
    assert (watch.period_s, notes) == (0.1, TickNotes())
