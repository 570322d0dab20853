"""The energy counter of a card, against a stand-in for the NVML library whose true joules are known."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("period_ms", [10, 100])
def test_the_period_of_the_counter_is_found(gpu_script, period_ms) -> None:
    source = f"""
begin(PERIOD_MS={period_ms})
say(rows=EnergyMeter().describe())
"""
    row = gpu_script(source)["rows"][0]
    assert row["kind"] == "measured"
    assert row["period_s"] == pytest.approx(period_ms / 1e3, rel=0.1)


def test_five_seconds_at_constant_power_are_within_half_a_percent_when_aligned_and_within_the_bounds_when_not(
    gpu_script,
) -> None:
    source = """
begin(TRACE=300)
meter = EnergyMeter()
aligned = meter.begin("aligned", align=True)
plain = meter.begin("plain")
time.sleep(5.05)
plain.end()
aligned.end()
say(**{w.name: [gpus(w.reading)[0], w.reading.duration_s, w.reading.warnings] for w in (plain, aligned)})
"""
    answer = gpu_script(source)
    gpu, duration_s, warnings = answer["aligned"]
    assert gpu["kind"] == "measured"
    assert gpu["energy_j"] == pytest.approx(300 * duration_s, rel=0.005)
    assert warnings == []
    gpu, duration_s, warnings = answer["plain"]
    assert gpu["low_j"] <= 300 * duration_s <= gpu["high_j"]
    assert gpu["high_j"] - gpu["low_j"] == pytest.approx(2 * 300 * 0.1, rel=0.1)
    assert warnings == []


def test_aligned_windows_of_a_quarter_second_are_within_one_percent(gpu_script) -> None:
    source = """
begin(TRACE=300)
meter = EnergyMeter()
medians, warnings = [], []
for _ in range(3):
    errors = []
    for _ in range(5):
        with meter.window("x", align=True) as w:
            time.sleep(0.25)
        gpu, = gpus(w.reading)
        errors.append(abs(gpu["energy_j"] / (300 * w.reading.duration_s) - 1))
        warnings += w.reading.warnings
    medians.append(sorted(errors)[2])
late_s = []
for _ in range(300):
    start_s = time.perf_counter()
    time.sleep(0.0005)
    late_s.append(time.perf_counter() - start_s - 0.0005)
say(medians=medians, warnings=warnings, late_s=sorted(late_s)[-6])
"""
    answer = gpu_script(source)
    # A process that gets no core sees the tick late, so of three medians the best is what the meter can do. Without
    # alignment the errors are some 20 %, and no median of five comes near.
    if (min(answer["medians"]) > 0.01 or len(answer["warnings"]) > 5) and answer["late_s"] > 0.003:
        pytest.skip(f"this machine is too busy: a sleep of 0.5 ms ends up to {answer['late_s'] * 1e3:.0f} ms late")
    assert min(answer["medians"]) <= 0.01
    # Each window warns when it saw its tick late. Without alignment all fifteen would warn.
    assert len(answer["warnings"]) <= 5


def test_a_short_window_is_flagged_and_its_bounds_hold_the_truth(gpu_script) -> None:
    source = """
begin(TRACE=300)
meter = EnergyMeter()
found = []
for i in range(6):
    with meter.window("x") as w:
        time.sleep(0.13 + 0.017 * i)
    found.append([gpus(w.reading)[0], w.reading.duration_s, w.reading.warnings])
say(found=found)
"""
    for gpu, duration_s, warnings in gpu_script(source)["found"]:
        assert gpu["valid"]
        assert gpu["low_j"] <= 300 * duration_s <= gpu["high_j"]
        assert any("times the energy counter's period" in w for w in warnings)


def test_windows_shorter_than_the_period_are_refused_and_never_zero(gpu_script) -> None:
    source = """
begin(TRACE=300)
meter = EnergyMeter()
found = []
for _ in range(50):
    with meter.window("x") as w:
        time.sleep(0.02)
    found.append([gpus(w.reading)[0], w.reading.duration_s])
with meter.window("aligned", align=True) as w:
    time.sleep(0.02)
say(found=found, aligned=gpus(w.reading)[0], duration_s=w.reading.duration_s)
"""
    answer = gpu_script(source)
    short = [(gpu, s) for gpu, s in answer["found"] if s < 0.09]  # a busy machine may sleep longer
    assert len(short) >= 25
    for gpu, duration_s in short:
        if gpu["energy_j"] is None:
            assert "shorter than" in gpu["reason"]
        else:  # a busy machine may take the period for a shorter one at first: then power counts, not a counter at rest
            assert gpu["kind"] == "sampled"
            assert gpu["energy_j"] == pytest.approx(300 * duration_s, rel=0.2)
    assert sum(gpu["energy_j"] is None for gpu, _ in short) >= 0.8 * len(short)
    # A process that gets no core sees a tick late; the bounds tell by how much.
    aligned, true_j = answer["aligned"], 300 * answer["duration_s"]
    assert aligned["energy_j"] > 0
    assert aligned["low_j"] <= true_j <= aligned["high_j"]
    assert aligned["high_j"] - aligned["low_j"] < true_j


def test_a_reset_in_the_window_makes_it_sampled_and_marked_and_the_next_window_is_right(gpu_script) -> None:
    source = """
begin(TRACE=300, PERIOD_MS=10)
meter = EnergyMeter()
os.environ["STANDIN_RESET_AT"] = str(clock() + 0.4)
with meter.window("outer") as outer:
    with meter.window("hit") as hit:
        time.sleep(0.8)
    with meter.window("after") as after:
        time.sleep(0.6)
say(hit=gpus(hit.reading)[0], outer=gpus(outer.reading)[0], after=gpus(after.reading)[0],
    duration_s=after.reading.duration_s, hit_s=hit.reading.duration_s, outer_s=outer.reading.duration_s,
    warnings=hit.reading.warnings, quiet=after.reading.warnings)
"""
    answer = gpu_script(source)
    for name in ("hit", "outer"):
        assert answer[name]["kind"] == "sampled"
        assert "reset" in answer[name]["note"]
        assert answer[name]["energy_j"] == pytest.approx(300 * answer[f"{name}_s"], rel=0.05)
        assert answer[name]["low_j"] < 300 * answer[f"{name}_s"] < answer[name]["high_j"]
    assert any("reset" in warning for warning in answer["warnings"])
    assert not any("reset" in warning for warning in answer["quiet"])
    assert answer["after"]["kind"] == "measured"
    assert answer["after"]["energy_j"] == pytest.approx(300 * answer["duration_s"], rel=0.05)


def test_a_reset_without_power_samples_makes_the_window_invalid(gpu_script) -> None:
    source = """
begin(TRACE=300, PERIOD_MS=10, ERRORS="nvmlDeviceGetFieldValues@0-1e9=3;nvmlDeviceGetPowerUsage@0-1e9=3")
meter = EnergyMeter()
os.environ["STANDIN_RESET_AT"] = str(clock() + 0.3)
with meter.window("x") as w:
    time.sleep(0.6)
say(gpu=gpus(w.reading)[0])
"""
    gpu = gpu_script(source)["gpu"]
    assert gpu["energy_j"] is None
    assert "reset" in gpu["reason"]


def test_a_reset_is_seen_although_the_counter_has_passed_its_old_value_at_the_end(gpu_script) -> None:
    source = """
begin(TRACE=300, PERIOD_MS=10, BASE_MJ=0)
meter = EnergyMeter()
os.environ["STANDIN_RESET_AT"] = str(clock() + 0.3)
with meter.window("x") as w:
    time.sleep(1.5)
say(gpu=gpus(w.reading)[0], duration_s=w.reading.duration_s)
"""
    answer = gpu_script(source)
    assert "reset" in answer["gpu"]["note"]
    assert answer["gpu"]["energy_j"] == pytest.approx(300 * answer["duration_s"], rel=0.05)


@pytest.mark.parametrize(
    ("code", "text"), [(15, "the GPU is lost"), (16, "the GPU must be reset"), (999, "unknown error")]
)
def test_a_gpu_that_fails_in_the_window_makes_it_invalid_and_raises_nothing(gpu_script, code, text) -> None:
    source = f"""
begin(TRACE=300, PERIOD_MS=10)
meter = EnergyMeter()
os.environ["STANDIN_ERRORS"] = f"nvmlDevice@{{clock() + 0.2}}-1e9={code}"
rule = os.environ["STANDIN_ERRORS"][len("nvmlDevice"):]
functions = ("GetTotalEnergyConsumption", "GetFieldValues", "GetPowerUsage", "GetComputeRunningProcesses_v3")
os.environ["STANDIN_ERRORS"] = ";".join("nvmlDevice" + name + rule for name in functions)
with meter.window("x") as w:
    time.sleep(0.4)
meter.power_w()
others = [s.valid for s in w.reading.sources if not s.name.startswith("nvml")]
say(gpu=gpus(w.reading)[0], others=others, rows=len(meter.describe()))
meter.close()
"""
    answer = gpu_script(source)
    assert answer["gpu"]["energy_j"] is None
    assert text in answer["gpu"]["reason"]
    assert all(answer["others"])


def test_a_failure_that_has_passed_at_the_end_of_the_window_does_not_spoil_the_counter(gpu_script) -> None:
    source = """
begin(TRACE=300, PERIOD_MS=10)
meter = EnergyMeter()
now = clock()
os.environ["STANDIN_ERRORS"] = f"nvmlDeviceGetTotalEnergyConsumption@{now + 0.2}-{now + 0.5}=999"
with meter.window("x") as w:
    time.sleep(1.0)
say(gpu=gpus(w.reading)[0], duration_s=w.reading.duration_s)
"""
    answer = gpu_script(source)
    assert answer["gpu"]["energy_j"] == pytest.approx(300 * answer["duration_s"], rel=0.03)


@pytest.mark.parametrize("power", [True, False])
def test_a_counter_that_stops_is_replaced_by_power_or_invalid_and_never_0(gpu_script, power: bool) -> None:
    errors = "" if power else ", ERRORS='nvmlDeviceGetFieldValues@0-1e9=3;nvmlDeviceGetPowerUsage@0-1e9=3'"
    source = f"""
begin(TRACE=300, PERIOD_MS=10{errors})
meter = EnergyMeter()
os.environ["STANDIN_FREEZE_AT"] = str(clock())
time.sleep(0.05)
with meter.window("x") as w:
    time.sleep(0.3)
say(gpu=gpus(w.reading)[0], duration_s=w.reading.duration_s)
"""
    answer = gpu_script(source)
    gpu = answer["gpu"]
    assert "stood still" in gpu["basis" if power else "reason"]
    if power:
        assert gpu["kind"] == "sampled"
        assert gpu["low_j"] <= 300 * answer["duration_s"] <= gpu["high_j"]
    else:
        assert gpu["energy_j"] is None


def test_a_counter_and_a_power_register_that_disagree_are_warned_about(gpu_script) -> None:
    source = """
begin(TRACE=300, PERIOD_MS=10)
meter = EnergyMeter()
with meter.window("before") as before:
    time.sleep(0.6)
time.sleep(1.2)  # longer than a sample may hold: the check must not be lost to the gap between the windows
os.environ["STANDIN_FREEZE_AT"] = str(clock() + 0.6)
with meter.window("x") as w:
    time.sleep(2.5)
say(warnings=w.reading.warnings, before=before.reading.warnings)
"""
    answer = gpu_script(source)
    assert any("integrated power" in w for w in answer["warnings"])
    assert not any("integrated power" in w for w in answer["before"])
