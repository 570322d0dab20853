"""Sampled power, where there is no counter, against a stand-in for the NVML library whose true joules are known."""

from __future__ import annotations

import pytest

from tests.bench.energy.conftest import NO_COUNTER


def test_constant_power_sampled_is_right_within_one_percent(gpu_script) -> None:
    source = f"""
begin(TRACE=300, ERRORS="{NO_COUNTER}")
meter = EnergyMeter()
with meter.window("x") as w:
    time.sleep(3)
say(gpu=gpus(w.reading)[0], duration_s=w.reading.duration_s, rows=meter.describe(),
    warnings=w.reading.warnings)
"""
    answer = gpu_script(source)
    assert answer["gpu"]["kind"] == "sampled"
    assert answer["gpu"]["energy_j"] == pytest.approx(300 * answer["duration_s"], rel=0.01)
    assert "does not support" in answer["rows"][0]["reason"]
    assert any("times the lag of sampled power" in w for w in answer["warnings"])


def test_a_square_wave_sampled_is_right_within_three_percent(gpu_script) -> None:
    source = f"""
begin(TRACE="square:100,300,0.6", ERRORS="{NO_COUNTER}")
meter = EnergyMeter()
start_s = clock()
with meter.window("x") as w:
    start_s = clock()
    time.sleep(3)
    end_s = clock()
say(gpu=gpus(w.reading)[0], start_s=start_s, end_s=end_s)
"""
    answer = gpu_script(source)
    true_j = square_j(answer["end_s"]) - square_j(answer["start_s"])
    assert answer["gpu"]["energy_j"] == pytest.approx(true_j, rel=0.03)
    assert answer["gpu"]["low_j"] <= true_j <= answer["gpu"]["high_j"]


def square_j(time_s: float, low_w: float = 100, high_w: float = 300, period_s: float = 0.6) -> float:
    """True energy of the square wave from 0 to `time_s`, low half first."""
    whole, rest_s = divmod(time_s, period_s)
    part_j = low_w * min(rest_s, period_s / 2) + high_w * max(0.0, rest_s - period_s / 2)
    return whole * (low_w + high_w) * period_s / 2 + part_j


@pytest.mark.parametrize(
    ("errors", "register"),
    [("", "instant"), (";field186@0-1e9=3", "1 s average"), (";nvmlDeviceGetFieldValues@0-1e9=13", "default")],
)
def test_the_quickest_power_register_that_works_is_used(gpu_script, errors, register) -> None:
    source = f"""
begin(TRACE=200, ERRORS="{NO_COUNTER + errors}")
meter = EnergyMeter()
with meter.window("x") as w:
    time.sleep(0.5)
say(gpu=gpus(w.reading)[0], rows=meter.describe(), duration_s=w.reading.duration_s)
"""
    answer = gpu_script(source)
    assert register in answer["rows"][0]["power_register"]
    assert answer["gpu"]["energy_j"] == pytest.approx(200 * answer["duration_s"], rel=0.02)


def test_a_counter_that_never_moves_is_replaced_by_sampled_power(gpu_script) -> None:
    source = """
begin(TRACE=200, FREEZE_AT=0)
meter = EnergyMeter()
with meter.window("x") as w:
    time.sleep(0.3)
say(gpu=gpus(w.reading)[0], duration_s=w.reading.duration_s)
"""
    answer = gpu_script(source)
    assert answer["gpu"]["kind"] == "sampled"
    assert "does not move" in answer["gpu"]["note"]
    assert answer["gpu"]["energy_j"] == pytest.approx(200 * answer["duration_s"], rel=0.02)


def test_a_long_gap_in_the_samples_makes_the_window_invalid(gpu_script) -> None:
    source = f"""
begin(TRACE=200, ERRORS="{NO_COUNTER}")
meter = EnergyMeter()
now = clock()
os.environ["STANDIN_ERRORS"] += f";nvmlDeviceGetFieldValues@{{now + 0.2}}-{{now + 1.8}}=999"
with meter.window("x") as w:
    time.sleep(2.2)
say(gpu=gpus(w.reading)[0])
"""
    gpu = gpu_script(source)["gpu"]
    assert gpu["energy_j"] is None
    assert "no power samples" in gpu["reason"]


def test_power_is_for_the_progress_bar(gpu_script) -> None:
    source = """
begin(TRACE=300, PERIOD_MS=10)
meter = EnergyMeter()
first = meter.power_w()
time.sleep(2.2)
say(first=first, power_w=meter.power_w())
"""
    answer = gpu_script(source)
    assert answer["first"] is None
    assert answer["power_w"] == pytest.approx(300, rel=0.05)
