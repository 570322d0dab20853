"""What goes on on a card beside its energy, and what is told of it."""

from __future__ import annotations

import pytest


def test_other_processes_and_throttling_are_warned_about(gpu_script) -> None:
    source = """
begin(PERIOD_MS=5, THROTTLE=0x40, PIDS=f"{os.getpid()},99999999")
with EnergyMeter().window("x") as w:
    time.sleep(0.5)
say(warnings=w.reading.warnings)
"""
    text = " ".join(gpu_script(source)["warnings"])
    assert "99999999" in text
    assert "slowed down by heat" in text


def test_the_state_of_the_card_is_in_the_reading(gpu_script) -> None:
    source = """
begin(PERIOD_MS=5, THROTTLE=0x44, PIDS="99999999", CLOCK_MHZ=1410, TEMPERATURE_C=71)
meter = EnergyMeter()
with meter.window("x") as w:
    time.sleep(0.2)
    os.environ["STANDIN_CLOCK_MHZ"], os.environ["STANDIN_TEMPERATURE_C"] = "900", "80"
    time.sleep(1.5)
say(card=gpus(w.reading)[0]["card"], warnings=w.reading.warnings)
"""
    answer = gpu_script(source)
    assert answer["card"] == {
        "sm_clock_min_mhz": 900,
        "sm_clock_max_mhz": 1410,
        "temperature_max_c": 80,
        "power_limit_w": 400,
        "throttled": ["its power limit", "heat"],
        "other_pids": [99999999],
    }
    # A card at its power limit is at work, not in trouble.
    assert [w for w in answer["warnings"] if "slowed" in w] == ["nvml:0: slowed down by heat"]


def test_what_a_card_does_not_tell_is_none(gpu_script) -> None:
    source = """
names = ("Temperature", "ClockInfo", "CurrentClocksThrottleReasons", "ComputeRunningProcesses_v3", "EnforcedPowerLimit")
begin(PERIOD_MS=5, ERRORS=";".join(f"nvmlDeviceGet{name}@0-1e9=3" for name in names))
with EnergyMeter().window("x") as w:
    time.sleep(0.2)
say(gpu=gpus(w.reading)[0])
"""
    gpu = gpu_script(source)["gpu"]
    assert gpu["valid"]
    assert set(map(str, gpu["card"].values())) == {"None", "[]"}


@pytest.mark.parametrize(("architecture", "fraction"), [(7, 0.06), (6, 0.13)])
def test_the_systematic_error_is_told_apart(gpu_script, architecture, fraction) -> None:
    source = f"""
begin(PERIOD_MS=5, TRACE=300, ARCH={architecture})
with EnergyMeter().window("x") as w:
    time.sleep(0.2)
say(gpu=gpus(w.reading)[0], uncertainty_j=next(s.uncertainty_j for s in w.reading.sources))
"""
    answer = gpu_script(source)
    assert answer["gpu"]["sensor_error_j"] == pytest.approx(fraction * answer["gpu"]["energy_j"])
    assert answer["uncertainty_j"] == pytest.approx(
        max(answer["gpu"]["high_j"] - answer["gpu"]["energy_j"], answer["gpu"]["energy_j"] - answer["gpu"]["low_j"])
    )


@pytest.mark.parametrize("limit_w", [700, 1000, 1400])
def test_the_power_limit_is_told_of_the_largest_cards_too(gpu_script, limit_w) -> None:
    source = f"""
begin(PERIOD_MS=5, TRACE=300, LIMIT_W={limit_w})
meter = EnergyMeter()
with meter.window("x") as w:
    time.sleep(0.2)
say(gpu=gpus(w.reading)[0], rows=meter.describe())
"""
    answer = gpu_script(source)
    assert answer["gpu"]["card"]["power_limit_w"] == limit_w
    assert answer["rows"][0]["power_limit_w"] == limit_w
