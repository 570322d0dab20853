"""What happened since a mark, and that it takes no room and no time to have a long history."""

from __future__ import annotations

import math

import pytest
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.energy.counting.history import History
from greenprune.bench.energy.counting.trace import MAX_SAMPLES, PowerIntegral, PowerTrace
from greenprune.bench.energy.power_log import MAX_ROWS, MOST_ROWS, Track
from greenprune.bench.energy.source import Mark, Segment, edge_error_s, joined


def maxima() -> History[list[float]]:
    return History(list, lambda a, b: [max([*a, *b])] if a or b else [])


def test_what_lies_between_two_cuts_is_what_was_noted_there() -> None:
    history = maxima()
    history.current.append(9.0)
    outer = history.cut()
    history.current.append(3.0)
    inner = history.cut()
    history.current.append(5.0)
    end = history.cut()
    history.current.append(7.0)
    assert history.between(outer, end) == [5.0]
    assert history.between(inner, end) == [5.0]
    assert history.between(outer, inner) == [3.0]
    assert history.between(inner, inner) == []


def test_cuts_that_nobody_holds_leave_nothing_apart_and_an_old_window_keeps_its_extremes() -> None:
    history = maxima()
    old = history.cut()
    nested = []
    for i in range(10_000):
        start = history.cut()
        history.current.append(float(i % 100))
        end = history.cut()
        if i % 1000 == 0:
            nested.append(start)
        assert history.between(start, end) == [i % 100]
    assert len(history) < 64
    assert history.between(old, history.cut()) == [99.0]
    assert [history.between(start, history.cut()) for start in nested[:2]] == [[99.0], [99.0]]


def test_joined_segments_have_the_sums_of_both() -> None:
    a = Segment(Mark(0.0, 0.0, 0.1), Mark(1.2, 5.0, 0.1), window_s=1.0)
    b = Segment(Mark(2.0, 6.0, 0.1, unseen_j=1.0), Mark(4.0, 9.0, 0.1, unseen_j=3.0), window_s=2.5)
    both = joined(a, b)
    assert both.energy_j == 8
    assert both.duration_s == pytest.approx(3.2)
    assert both.unseen_j == 2
    assert both.parts == 2
    assert edge_error_s([both]) == pytest.approx(edge_error_s([a, b]))
    failed = joined(a, Segment(Mark(2.0, math.nan, reason="lost"), Mark(3.0, 1.0)))
    assert math.isnan(failed.energy_j)


def test_power_is_integrated_without_keeping_samples() -> None:
    integral = PowerIntegral(longest_hold_s=1.0)
    for time_s, power_w in ((0.0, 100.0), (1.0, 300.0), (1.0, 300.0), (4.0, 100.0)):
        integral.add(time_s, power_w)
    assert integral.until(4.0) == (1000.0, 2.0)
    assert integral.until(5.0) == (1100.0, 2.0)
    assert integral.until(2.0) == (400.0, 0.0)
    assert integral.last == (4.0, 100.0)
    assert integral.recent_w == 300.0


def test_a_months_trace_takes_the_room_of_an_hours_and_keeps_its_joules() -> None:
    trace = PowerTrace()
    for i in range(100_000):
        trace.add(i * 25.9, 100.0 + i % 7)  # thirty days
    assert len(trace) <= MAX_SAMPLES
    end_s = 99_999 * 25.9
    assert trace.energy_j(0.0, end_s) == pytest.approx(103 * end_s, rel=1e-3)
    assert trace.energy_j(end_s - 6 * 7 * 25.9, end_s) == pytest.approx(103 * 6 * 7 * 25.9, rel=1e-2)
    assert trace.peak_w(1000.0, 2000.0) == 106.0


def test_a_power_log_whose_phases_change_with_every_row_stays_small_and_keeps_its_joules() -> None:
    track = Track(0.0, "sampled", max_rows=64)
    for i in range(1, 20_001):
        track.add(i * 0.1, 20.0, f"step {i}")
    assert len(track.ends_s) <= 64 * MOST_ROWS
    steps = [end_s - start_s for start_s, end_s in zip([0.0, *track.ends_s], track.ends_s, strict=False)]
    assert sum(w * s for w, s in zip(track.power_w, steps, strict=True)) == pytest.approx(200 * track.ends_s[-1])
    assert MAX_ROWS * MOST_ROWS <= 20_000


def test_a_window_that_is_paused_again_and_again_keeps_few_segments(tmp_path) -> None:
    with EnergyMeter("cpu", powercap=tmp_path) as meter:
        window = meter.begin("x")
        for _ in range(300):
            with window.paused():
                pass
        assert all(len(own) <= 64 for own in window._segments)
        window.end()
    assert all(s.valid for s in window.reading.sources)


OLD = """
import math, statistics
from greenprune.bench.energy.nvml.state import Look
def sizes(meter):
    return sum(len(s._history) for s in meter._sources if hasattr(s, "_history"))
def cost_s(meter):
    begun_s = time.thread_time()
    with meter.window("x"):
        pass
    return time.thread_time() - begun_s
def age(meter, windows, polls):
    # What a month leaves behind, without its time: polls and windows, one after the other.
    source = meter._sources[0]
    for i in range(windows):
        with meter.window(f"step {i}"):
            for _ in range(polls // windows):
                source._observer._last_s = -math.inf
                source.poll()
"""


def test_a_window_of_an_old_meter_costs_what_one_of_a_fresh_meter_does(gpu_script) -> None:
    source = f"""{OLD}
begin(TRACE=300, PERIOD_MS=10)
old, fresh = EnergyMeter(), EnergyMeter()
outer = old.begin("begun a month ago")
nested = old.begin("nested")
age(old, 1500, 12000)
for meter in (old, fresh):
    for _ in range(20):
        cost_s(meter)
pairs = [(cost_s(old), cost_s(fresh)) for _ in range(150)]
ratio = statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)
begun_s = time.thread_time()
nested.end()
end_s = time.thread_time() - begun_s
size = sizes(old)
age(old, 1500, 12000)
outer.end()
say(ratio=ratio, end_ratio=end_s / statistics.median(b for _, b in pairs), size=size, later=sizes(old),
    outer=gpus(outer.reading)[0], duration_s=outer.reading.duration_s)
"""
    answer = gpu_script(source)
    assert answer["ratio"] < 1.6
    assert answer["end_ratio"] < 5
    assert answer["size"] <= 48
    assert answer["later"] <= 48
    assert answer["outer"]["energy_j"] == pytest.approx(300 * answer["duration_s"], rel=0.05)
