"""Gross and net: the idle power, measured or given, and what of a reading lies above it."""

from __future__ import annotations

import pytest
from greenprune.bench.energy.idle import IdlePower, idle_powers, with_idle
from greenprune.bench.energy.reading import Reading, SourceReading


def source(energy_j: float | None, kind="measured", name="nvml:0", **others) -> SourceReading:
    return SourceReading(name=name, kind=kind, energy_j=energy_j, valid=energy_j is not None, **others)


def test_net_is_gross_less_idle_power_by_duration() -> None:
    reading = with_idle(source(500.0, low_j=490.0, high_j=520.0), 2.0, {"nvml:0": IdlePower(50.0, 1.5)})
    assert (reading.energy_j, reading.idle_j, reading.net_j) == (500, 100, 400)
    assert reading.net_uncertainty_j == 20 + 3


def test_a_model_an_invalid_reading_and_an_unknown_source_have_no_net_energy() -> None:
    idle = {"nvml:0": IdlePower(50.0), "cpu": IdlePower(5.0)}
    for reading in (source(5.0, "modelled", "cpu"), source(None), source(5.0, name="nvml:1")):
        assert with_idle(reading, 2.0, idle) is reading
        assert reading.net_j is None
        assert reading.net_uncertainty_j is None


def test_idle_power_is_that_of_the_sensors_that_were_read() -> None:
    resting = Reading(
        name="idle",
        duration_s=10,
        sources=(
            source(500.0, low_j=480.0, high_j=510.0),
            source(None, name="nvml:1"),
            source(1.0, "modelled", "cpu"),
            source(200.0, "sampled", "nvml:2"),
        ),
    )
    assert idle_powers(resting) == {"nvml:0": IdlePower(50.0, 2.0), "nvml:2": IdlePower(20.0, 0.0)}
    assert idle_powers(Reading(name="idle", duration_s=0.0, sources=(source(1.0),))) == {}


def test_net_of_a_kind_needs_the_idle_power_of_all_its_sources() -> None:
    known = source(500.0, idle_j=100.0)
    assert Reading(name="x", duration_s=1, sources=(known, known)).net_j("measured") == 800
    assert Reading(name="x", duration_s=1, sources=(known, source(1.0))).net_j("measured") is None


def test_a_gpu_that_idles_at_100_w_and_works_at_300_w(gpu_script) -> None:
    source = """
begin(TRACE="step:100,300,3.5", PERIOD_MS=20)
meter = EnergyMeter()
with meter.window("before") as before:
    time.sleep(0.2)
idle = meter.measure_idle(1.5)
assert clock() < 3.4, "this machine is too slow"
time.sleep(3.6 - clock())
with meter.window("x", align=True) as w:
    time.sleep(0.5)
s, = [s for s in w.reading.sources if s.name == "nvml:0"]
say(net_j=s.net_j, idle_j=s.idle_j, gross_j=s.energy_j, duration_s=w.reading.duration_s, idle=gpus(idle)[0],
    net_uncertainty_j=s.net_uncertainty_j, before=gpus(before.reading)[0], rows=meter.describe())
"""
    answer = gpu_script(source)
    duration_s = answer["duration_s"]
    assert answer["idle_j"] == pytest.approx(100 * duration_s, rel=0.03)
    assert answer["net_j"] == pytest.approx(200 * duration_s, rel=0.05)
    assert answer["net_j"] == pytest.approx(answer["gross_j"] - answer["idle_j"])
    assert answer["net_uncertainty_j"] > 0
    assert answer["before"]["idle_j"] is None
    assert answer["rows"][0]["idle_power_w"] == pytest.approx(100, rel=0.03)


def test_an_idle_power_that_is_known_already_is_used(gpu_script) -> None:
    source = """
begin(TRACE=300, PERIOD_MS=10)
with EnergyMeter(idle_power_w={"nvml:0": 60.0}).window("x") as w:
    time.sleep(0.2)
say(gpu=gpus(w.reading)[0], duration_s=w.reading.duration_s)
"""
    answer = gpu_script(source)
    assert answer["gpu"]["idle_j"] == pytest.approx(60 * answer["duration_s"])
