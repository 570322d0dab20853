"""The power log: its joules are those of the sources, it stays small, and it is stored whole."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.energy.power_log import POWER_FILE, PowerLog, Track, read_power, write_power
from greenprune.bench.energy.source import Mark


def joules(columns, source: str) -> float:
    """Sum of power by step over the rows of a source."""
    total_j, last_s = 0.0, 0.0
    for name, time_s, power_w in zip(columns["source"], columns["time_s"], columns["power_w"], strict=True):
        if name == source:
            total_j += (power_w or 0.0) * (time_s - last_s)
            last_s = time_s
    return total_j


def test_a_row_is_the_mean_since_the_row_before() -> None:
    track = Track(0.0, "modelled")
    track.add(1.0, 5.0, "a")
    track.add(3.0, 4.0, "b")
    assert (list(track.ends_s), list(track.power_w), track.phases) == ([1.0, 3.0], [5.0, 2.0], ["a", "b"])


def test_at_most_ten_rows_a_second_and_no_joule_is_lost() -> None:
    track = Track(0.0, "modelled")
    for i in range(1, 1001):
        track.add(i / 100, 0.03, "a")
    assert 90 <= len(track.ends_s) <= 111
    steps = [end_s - start_s for start_s, end_s in zip([0.0, *track.ends_s], track.ends_s, strict=False)]
    logged_j = sum(w * s for w, s in zip(track.power_w, steps, strict=True))
    assert logged_j == pytest.approx(3 * track.ends_s[-1])


def test_a_long_run_is_thinned_and_keeps_its_joules_and_phases() -> None:
    track = Track(0.0, "sampled", max_rows=64)
    for i in range(1, 5001):
        track.add(i * 0.1, 20.0 if i <= 2500 else 30.0, "first" if i <= 2500 else "second")
    assert len(track.ends_s) <= 64
    steps = [end_s - start_s for start_s, end_s in zip([0.0, *track.ends_s], track.ends_s, strict=False)]
    logged_j = sum(w * s for w, s in zip(track.power_w, steps, strict=True))
    assert logged_j == pytest.approx(20 * 2500 + 30 * 2500, rel=0.03)  # the last row may not be due yet
    assert set(track.phases) == {"first", "second"}
    assert all(w == pytest.approx(200 if p == "first" else 300, rel=0.02) for w, p in zip(track.power_w, track.phases,
                                                                                        strict=True) )  # fmt: skip


def test_an_unknown_stretch_is_null_and_so_is_one_with_a_reset() -> None:
    log = PowerLog()
    t = log.start_s
    for mark in (Mark(t, 0.0), Mark(t + 1, 5.0), Mark(t + 2, math.nan), Mark(t + 3, 9.0), Mark(t + 4, 12.0),
                 Mark(t + 5, 1.0, resets=1)):  # fmt: skip
        log.total("rapl:package-0", "measured", mark, "a")
    assert log.columns()["power_w"] == pytest.approx([5.0, None, None, 3.0, None])


def test_a_register_holds_until_its_next_sample_but_not_for_ever() -> None:
    log = PowerLog()
    t = log.start_s
    for time_s, power_w in ((0.0, 100.0), (0.1, 300.0), (0.2, 300.0), (10.0, 50.0), (10.1, 50.0)):
        log.sample("nvml:0", t + time_s, power_w, "a")
    columns = log.columns()
    assert columns["power_w"] == pytest.approx([100.0, 300.0, None, 50.0])
    assert columns["kind"] == ["sampled"] * 4


def test_joules_of_the_log_are_those_of_the_windows(tmp_path: Path) -> None:
    with EnergyMeter("cpu", powercap=tmp_path) as meter:
        for name in ("first", "second"):
            with meter.window(name) as w:
                end_s = time.process_time() + 0.4
                while time.process_time() < end_s:
                    pass
        cpu_j = w.reading.sources[0].energy_j
        path = meter.power_log.write(tmp_path / "run" / POWER_FILE)
    columns = read_power(path)
    assert set(columns) == {"time_s", "source", "kind", "power_w", "phase"}
    assert {"first", "second"} <= set(columns["phase"])
    assert set(zip(columns["source"], columns["kind"], strict=True)) == {("cpu", "modelled"), ("ram", "modelled")}
    assert cpu_j is not None
    assert joules(columns, "cpu") == pytest.approx(2 * cpu_j, rel=0.2)
    assert b"started_at_s" in pq.read_schema(path).metadata
    assert [p.name for p in path.parent.iterdir()] == [POWER_FILE]  # nothing temporary is left


def test_a_gpu_is_in_the_log_with_its_power_register(gpu_script) -> None:
    source = """
begin(TRACE="step:100,300,2.0", PERIOD_MS=10)
meter = EnergyMeter()
with meter.window("x"):
    time.sleep(max(0.1, 3.0 - clock()))
offset_s = clock() - (time.perf_counter() - meter.power_log.start_s)
say(columns=meter.power_log.columns(), offset_s=offset_s)
"""
    answer = gpu_script(source)
    columns = answer["columns"]
    rows = [
        (time_s + answer["offset_s"], power_w)
        for name, kind, time_s, power_w in zip(
            *(columns[c] for c in ("source", "kind", "time_s", "power_w")), strict=True
        )
        if name == "nvml:0" and kind == "sampled" and power_w is not None
    ]
    assert len(rows) >= 5
    assert all(power_w == pytest.approx(300) for time_s, power_w in rows if time_s > 2.6)
    assert all(power_w == pytest.approx(100) for time_s, power_w in rows if time_s < 1.9)


def test_a_gpu_that_is_lost_has_no_power_from_then_on(gpu_script) -> None:
    source = """
begin(TRACE=300, PERIOD_MS=10)
meter = EnergyMeter()
with meter.window("x"):
    time.sleep(0.5)
    names = ("GetTotalEnergyConsumption", "GetFieldValues", "GetPowerUsage")
    os.environ["STANDIN_ERRORS"] = ";".join(f"nvmlDevice{name}@0-1e9=15" for name in names)
    lost_s = time.perf_counter() - meter.power_log.start_s
    time.sleep(0.6)
say(columns=meter.power_log.columns(), lost_s=lost_s)
"""
    answer = gpu_script(source)
    columns = answer["columns"]
    times_s = [t for name, t in zip(columns["source"], columns["time_s"], strict=True) if name == "nvml:0"]
    assert times_s
    assert max(times_s) <= answer["lost_s"] + 0.1


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_power({n: [] for n in ("time_s", "source", "kind", "power_w", "phase")}, tmp_path / "file" / "x",
                    started_at_s=0.0)  # fmt: skip
