"""The arithmetic of readings, counters and power traces."""

from __future__ import annotations

import math

import pytest
from greenprune.bench.energy.counting.totals import Counter, counter_step_j
from greenprune.bench.energy.counting.trace import PowerTrace
from greenprune.bench.energy.reading import CardState, Reading, SourceReading, merge_cards
from greenprune.bench.energy.source import Mark, Segment, SensorError, edge_error_s, fault
from greenprune.bench.energy.units import checked_counts, singular


def source(name: str, energy_j: float | None, kind="measured", low_j=None, high_j=None) -> SourceReading:
    valid = energy_j is not None
    return SourceReading(name=name, kind=kind, energy_j=energy_j, low_j=low_j, high_j=high_j, valid=valid)


# ---- Reading


def test_kinds_are_never_added_to_one_another() -> None:
    reading = Reading(
        name="x",
        duration_s=1,
        sources=(source("nvml:0", 10), source("nvml:1", 5), source("cpu", 7, "modelled"), source("ram", 1, "modelled")),
    )
    assert reading.energy_j("measured") == 15
    assert reading.energy_j("modelled") == 8
    assert reading.energy_j("sampled") is None


def test_one_invalid_source_leaves_its_kind_without_a_sum() -> None:
    reading = Reading(name="x", duration_s=1, sources=(source("a", 10), source("b", None), source("c", 1, "modelled")))
    assert reading.energy_j("measured") is None
    assert reading.bounds_j("measured") is None
    assert reading.energy_j("modelled") == 1


def test_bounds_are_summed_and_a_source_without_them_counts_as_exact() -> None:
    reading = Reading(name="x", duration_s=1, sources=(source("a", 10, low_j=8, high_j=13), source("b", 5)))
    assert reading.bounds_j("measured") == (13, 18)


def test_a_reading_survives_json() -> None:
    reading = Reading(name="x", duration_s=1.5, sources=(source("a", 10, low_j=8, high_j=13),), warnings=("w",))
    assert Reading.model_validate_json(reading.model_dump_json()) == reading


# ---- units


def test_joules_per_unit_carry_the_bounds() -> None:
    reading = Reading(
        name="x",
        duration_s=1,
        sources=(source("a", 10, low_j=8, high_j=13), source("cpu", 4, "modelled"), source("b", None, "sampled")),
        units={"tokens": 100, "requests": 4, "images": 0},
    )
    tokens, requests = reading.per_unit("measured")
    assert (tokens.unit, tokens.count) == ("tokens", 100)
    assert (tokens.low_j_per_unit, tokens.j_per_unit, tokens.high_j_per_unit) == pytest.approx((0.08, 0.1, 0.13))
    assert (requests.unit, requests.j_per_unit) == ("requests", 2.5)
    assert [part.j_per_unit for part in reading.per_unit("modelled")] == [0.04, 1.0]
    assert reading.per_unit("sampled") == ()
    assert Reading.model_validate_json(reading.model_dump_json()) == reading


@pytest.mark.parametrize("count", [-1, math.nan, math.inf, True, "7", None, [3]])
def test_a_count_is_a_number_from_0(count) -> None:
    with pytest.raises(ValueError, match=r"^tokens = .*: allowed is a number from 0$"):
        checked_counts({"tokens": count})


@pytest.mark.parametrize("name", ["", "per cent", "a=b", "7"])
def test_a_unit_has_a_name(name: str) -> None:
    with pytest.raises(ValueError, match=f'^unit "{name}": allowed is a name'):
        checked_counts({name: 1})


def test_one_of_them() -> None:
    many = ["tokens", "images", "queries", "batches", "boxes", "passes", "loss", "km"]
    assert [singular(unit) for unit in many] == ["token", "image", "query", "batch", "box", "pass", "loss", "km"]


# ---- counters


def test_a_step_is_the_difference() -> None:
    assert counter_step_j(100, 130, 1, max_power_w=1000) == 30


def test_a_step_over_a_wraparound_goes_round() -> None:
    assert counter_step_j(250, 20, 1, max_power_w=1000, wrap_j=262) == 32


def test_a_counter_that_goes_back_without_a_wraparound_was_reset() -> None:
    with pytest.raises(SensorError, match="reset"):
        counter_step_j(100, 99, 1, max_power_w=1000)


@pytest.mark.parametrize(("previous_j", "wrap_j"), [(0, None), (10_000, 262_000)])
def test_a_step_that_no_device_could_have_made_is_a_reset(previous_j, wrap_j) -> None:
    with pytest.raises(SensorError, match="more than 1000 W allow"):
        counter_step_j(previous_j, 5000 if wrap_j is None else 0, 1, max_power_w=1000, wrap_j=wrap_j)


def test_a_counter_adds_up_over_wraparounds_and_resets_are_counted_not_subtracted() -> None:
    values = iter([90.0, 95.0, 2.0, 12.0, 11.0, 14.0])
    counter = Counter(lambda: next(values), max_power_w=1e9, stale_s=0.1, wrap_j=None)
    marks = [counter.mark() for _ in range(6)]
    assert [m.total_j for m in marks] == [0, 5, 5, 15, 15, 18]
    assert [m.resets for m in marks] == [0, 0, 1, 1, 2, 2]


def test_a_segment_with_a_reset_or_a_failed_mark_is_faulty() -> None:
    start, failed = Mark(0, 10), Mark(1, math.nan, reason="lost")
    assert fault([Segment(start, Mark(1, 12))]) is None
    assert fault([Segment(start, failed)]) == "lost"
    assert fault([Segment(failed, start)]) == "lost"
    assert fault([Segment(start, Mark(1, 12, resets=1, reason="reset"))]) == "reset"
    assert fault([Segment(start, Mark(1, 12)), Segment(Mark(2, 12), failed)]) == "lost"


def test_stale_totals_are_an_error_at_every_edge() -> None:
    segments = [Segment(Mark(0, 0, stale_s=0.1), Mark(1, 1, stale_s=0.001)), Segment(Mark(2, 1), Mark(3, 2, 0.1))]
    assert edge_error_s(segments) == pytest.approx((0.1, 0.101))


def test_what_was_read_late_is_in_the_bounds() -> None:
    late = Segment(Mark(0, 0), Mark(1.5, 1, stale_s=0.1), window_s=1.0)
    early = Segment(Mark(2, 1), Mark(2.7, 2), window_s=1.0)
    assert edge_error_s([late]) == pytest.approx((0.5, 0.1))
    assert edge_error_s([early]) == pytest.approx((0.0, 0.3))


# ---- traces of power


def trace_of(*samples: tuple[float, float]) -> PowerTrace:
    trace = PowerTrace()
    for time_s, power_w in samples:
        trace.add(time_s, power_w)
    return trace


def test_constant_power_with_repeated_samples_is_not_lost() -> None:
    assert trace_of(*((i / 10, 300) for i in range(31))).energy_j(0, 3) == pytest.approx(900)


def test_a_sample_holds_until_the_next() -> None:
    trace = trace_of((0, 100), (1, 300), (2, 100), (3, 300))
    assert trace.energy_j(0, 4) == 800
    assert trace.energy_j(0.5, 1.5) == 200
    assert trace.energy_j(1.25, 1.75) == 150


def test_before_the_first_sample_the_first_one_holds() -> None:
    assert trace_of((1, 100), (2, 300)).energy_j(0, 2) == 200


def test_a_trace_without_samples_has_no_energy_rather_than_none() -> None:
    with pytest.raises(ValueError, match="no power samples"):
        PowerTrace().energy_j(0, 1)


def test_peak_counts_what_was_held_at_the_start() -> None:
    trace = trace_of((0, 300), (1, 100), (2, 50))
    assert trace.peak_w(0.5, 3) == 300
    assert trace.peak_w(1.5, 3) == 100
    assert trace.peak_w(2.5, 3) == 50


def test_gaps_longer_than_a_sample_may_hold_are_uncovered() -> None:
    trace = trace_of((0, 100), (0.5, 100), (3, 100))
    assert trace.uncovered_s(0, 3.5, longest_hold_s=1) == pytest.approx(1.5)
    assert trace.uncovered_s(0, 1.5, longest_hold_s=1) == 0
    assert trace.uncovered_s(2, 2.5, longest_hold_s=1) == pytest.approx(0.5)
    assert trace.uncovered_s(0, 6, longest_hold_s=1) == pytest.approx(1.5 + 2)


def test_a_sample_from_the_past_is_dropped() -> None:
    assert trace_of((0, 100), (2, 100), (1, 900)).energy_j(0, 3) == 300


# ---- uncertainty and state


def test_uncertainty_reaches_to_the_further_bound() -> None:
    assert source("a", 10, low_j=7, high_j=12).uncertainty_j == 3
    assert source("a", 10, low_j=9, high_j=15).uncertainty_j == 5
    assert source("a", 10).uncertainty_j == 0
    assert source("a", None).uncertainty_j is None


def test_uncertainty_of_a_kind_adds_up_its_bounds() -> None:
    sources = (source("a", 10, low_j=8, high_j=13), source("b", 5, low_j=1, high_j=5), source("c", 9, "modelled"))
    reading = Reading(name="x", duration_s=1, sources=sources)
    assert reading.uncertainty_j("measured") == 6
    assert reading.uncertainty_j("modelled") == 0
    assert reading.uncertainty_j("sampled") is None


def test_states_of_a_card_are_merged_to_their_extremes() -> None:
    a = CardState(sm_clock_min_mhz=1000, sm_clock_max_mhz=1400, temperature_max_c=60, throttled=("heat",))
    b = CardState(sm_clock_min_mhz=1200, sm_clock_max_mhz=1500, power_limit_w=300, other_pids=(7, 3))
    assert merge_cards([a, None, b]) == CardState(
        sm_clock_min_mhz=1000,
        sm_clock_max_mhz=1500,
        temperature_max_c=60,
        power_limit_w=300,
        throttled=("heat",),
        other_pids=(3, 7),
    )
    assert merge_cards([None]) is None
