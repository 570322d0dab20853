"""The counter that all of these sources share: its period is followed, and a long pause tells its bounds."""

from __future__ import annotations

import time

import pytest
from greenprune.bench.energy.sensors.counter import CounterSource
from greenprune.bench.energy.source import Mark, Segment, SensorError

POWER_W = 100.0


def stepped(period_s: list[float]):
    """A counter of constant power that moves every `period_s[0]` seconds."""
    begun_s = time.perf_counter()
    return lambda: POWER_W * ((time.perf_counter() - begun_s) // period_s[0]) * period_s[0]


def source(read_j, period_s: float = 0.05) -> CounterSource:
    return CounterSource("x", read_j, period_s=period_s, max_power_w=1e4, detail="", note="")


def watched(counter: CounterSource, duration_s: float) -> tuple[Mark, Mark]:
    start = counter.mark()
    until_s = start.time_s + duration_s
    while time.perf_counter() < until_s:
        time.sleep(0.005)
        counter.poll()
    return start, counter.mark()


def test_a_counter_that_becomes_slower_keeps_the_truth_between_its_bounds() -> None:
    period_s = [0.05]
    counter = source(stepped(period_s))
    watched(counter, 0.2)
    period_s[0] = 0.4
    watched(counter, 1.0)
    assert counter.describe()["period_s"] > 0.3
    start, end = watched(counter, 0.7)
    segment = Segment(start, end, end.time_s - start.time_s, counter.tally(start, end))
    reading, _ = counter.reading([segment])
    true_j = POWER_W * segment.duration_s
    assert reading.low_j <= true_j <= reading.high_j


def test_a_counter_that_is_updated_too_often_to_be_watched_has_bounds_of_its_period() -> None:
    counter = source(stepped([0.001]), period_s=0.001)
    start, end = watched(counter, 0.5)
    segment = Segment(start, end, end.time_s - start.time_s, counter.tally(start, end))
    reading, _ = counter.reading([segment])
    assert reading.low_j <= POWER_W * segment.duration_s <= reading.high_j
    assert reading.high_j - reading.low_j < 0.01 * reading.energy_j


def test_many_pauses_are_one_segment_and_warnings_know_their_number() -> None:
    counter = source(stepped([0.01]), period_s=0.01)
    pairs = [watched(counter, 0.03) for _ in range(3)]
    segments = [Segment(a, b, b.time_s - a.time_s, counter.tally(a, b)) for a, b in pairs]
    notes = segments[0].tally + segments[1].tally + segments[2].tally
    assert notes.late_over_s >= 0
    reading, warnings = counter.reading(segments)
    assert reading.valid
    assert any("periods" in warning for warning in warnings)


def test_an_error_of_the_sensor_is_the_callers_business() -> None:
    values = iter([0.0])

    def read_j() -> float:
        try:
            return next(values)
        except StopIteration:
            raise SensorError("gone") from None

    counter = source(read_j)
    with pytest.raises(SensorError, match="gone"):
        counter.mark()
