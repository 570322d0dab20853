"""Windows: nesting, pausing, exceptions, and that no failing sensor ever reaches the user's code."""

from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.energy.source import Mark, SensorError


@pytest.fixture
def meter(tmp_path: Path):
    with EnergyMeter("cpu", powercap=tmp_path) as made:
        yield made


def spin(cpu_s: float) -> None:
    end_s = time.process_time() + cpu_s
    while time.process_time() < end_s:
        pass


def cpu_j(window) -> float:
    return next(s.energy_j for s in window.reading.sources if s.name == "cpu")


def watts(meter: EnergyMeter) -> float:
    return meter._sources[0]._power.power_w  # type: ignore[attr-defined]


def test_a_window_has_a_name_a_duration_and_the_modelled_sources(meter: EnergyMeter) -> None:
    with meter.window("training") as w:
        spin(0.2)
    assert w.reading.name == "training"
    assert w.reading.duration_s >= 0.19
    assert [(s.name, s.kind, s.valid) for s in w.reading.sources] == [
        ("cpu", "modelled", True),
        ("ram", "modelled", True),
    ]
    assert cpu_j(w) == pytest.approx(0.2 * watts(meter), rel=0.05)


def test_windows_nest_and_overlap(meter: EnergyMeter) -> None:
    outer = meter.begin("outer")
    spin(0.1)
    late = meter.begin("late")
    with meter.window("inner") as inner:
        spin(0.1)
    outer.end()
    spin(0.1)
    late.end()
    per_tenth_j = 0.1 * watts(meter)
    for window, tenths in ((outer, 2), (inner, 1), (late, 2)):
        assert cpu_j(window) == pytest.approx(tenths * per_tenth_j, rel=0.1)
    assert inner.reading.duration_s < outer.reading.duration_s


def test_what_was_done_is_counted_before_meanwhile_and_after(meter: EnergyMeter) -> None:
    with meter.window("serving", units={"requests": 2}) as w:
        w.count(tokens=30)
        w.count(tokens=12, requests=1)
    assert w.reading.units == {"requests": 3, "tokens": 42}
    energy_j = w.reading.energy_j("modelled")
    w.count(images=5)
    assert w.reading.units == {"requests": 3, "tokens": 42, "images": 5}
    assert w.reading.energy_j("modelled") == energy_j
    assert [part.j_per_unit for part in w.reading.per_unit("modelled")] == [energy_j / n for n in (3, 42, 5)]


def test_a_count_that_is_none_adds_nothing_and_loses_nothing(meter: EnergyMeter) -> None:
    with pytest.raises(ValueError, match="tokens"), meter.window("x", units={"tokens": -1}):
        pytest.fail("the window was opened")
    assert meter._sampling.open_windows == []
    with pytest.raises(ValueError, match="tokens"), meter.window("x", units={"requests": 2}) as w:
        w.count(requests=1, tokens=math.nan)
    assert w.reading.units == {"requests": 2}
    assert w.reading.energy_j("modelled") is not None


class Ticking:
    """A counter of 1 J that moves with every third look at it."""

    name, kind, poll_interval_s = "ticking", "measured", math.inf
    looks = 0

    def mark(self) -> Mark:
        self.looks += 1
        return Mark(time.perf_counter(), float(self.looks // 3), stale_s=10.0)

    def last_sample(self) -> None:
        return None

    def close(self) -> None:
        pass


@pytest.mark.parametrize("align", [False, True])
def test_an_aligned_window_begins_when_the_counter_has_just_moved(meter: EnergyMeter, align: bool) -> None:
    source = Ticking()
    meter._sources[:] = [source]  # type: ignore[list-item]
    source.looks = 3
    window = meter.begin("x", align=align)
    (mark,) = window._open  # type: ignore[misc]
    # The first look sees 1 J; the counter moves to 2 J at the sixth.
    assert (source.looks, mark.total_j) == ((6, 2.0) if align else (4, 1.0))
    assert (mark.stale_s < 10.0) == align  # how late the tick was seen, not a whole period


def test_time_and_energy_of_a_pause_do_not_count(meter: EnergyMeter) -> None:
    with meter.window("x") as w:
        spin(0.1)
        with w.paused():
            spin(0.3)
            with w.paused():
                spin(0.1)
            spin(0.1)
        spin(0.1)
    assert cpu_j(w) == pytest.approx(0.2 * watts(meter), rel=0.1)


def test_what_a_pause_lets_through_continues_the_window(meter: EnergyMeter) -> None:
    with meter.window("x") as w:
        with pytest.raises(KeyError), w.paused():
            raise KeyError
        spin(0.1)
    assert cpu_j(w) == pytest.approx(0.1 * watts(meter), rel=0.1)


def test_a_window_that_ends_in_a_pause_counts_what_was_before_it(meter: EnergyMeter) -> None:
    w = meter.begin("x")
    spin(0.1)
    with w.paused():
        spin(0.1)
        w.end()
        spin(0.1)
    assert cpu_j(w) == pytest.approx(0.1 * watts(meter), rel=0.1)


def test_ending_twice_changes_nothing(meter: EnergyMeter) -> None:
    w = meter.begin("x")
    first = w.end()
    spin(0.05)
    assert w.end() is first


def test_a_reading_before_the_end_is_an_error(meter: EnergyMeter) -> None:
    w = meter.begin("x")
    with pytest.raises(RuntimeError, match='"x" has not ended'):
        _ = w.reading
    w.end()


def test_an_exception_in_the_block_passes_unchanged_and_the_reading_is_there(meter: EnergyMeter) -> None:
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught, meter.window("x") as w:
        raise error
    assert caught.value is error
    assert w.reading.duration_s > 0
    assert cpu_j(w) >= 0


def test_the_gpu_is_synchronised_before_every_edge() -> None:
    calls: list[int] = []
    meter = EnergyMeter("cpu", synchronise=lambda: calls.append(1))
    with meter.window("x") as w:
        assert len(calls) == 1
        with w.paused():
            assert len(calls) == 2
        assert len(calls) == 3
    assert len(calls) == 4


def test_a_failing_synchronise_is_a_warning_and_does_not_hide_the_users_exception() -> None:
    def fail() -> None:
        raise RuntimeError("CUDA error")

    meter = EnergyMeter("cpu", synchronise=fail)
    with pytest.raises(KeyError), meter.window("x") as w:
        raise KeyError
    (warning,) = w.reading.warnings
    assert "CUDA error" in warning


@pytest.mark.parametrize("method", ["mark", "reading"])
@pytest.mark.parametrize("error", [SensorError("broken"), OSError("broken"), ZeroDivisionError("broken")])
def test_whatever_a_source_raises_becomes_an_invalid_reading(meter, monkeypatch, method, error) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(meter._sources[0], method, fail)
    with meter.window("x") as w:
        pass
    cpu, ram = w.reading.sources
    assert (cpu.valid, cpu.energy_j) == (False, None)
    assert "broken" in (cpu.reason or "")
    assert ram.valid


def test_a_mark_that_fails_once_is_read_again(meter, monkeypatch) -> None:
    cpu, mark, calls = meter._sources[0], meter._sources[0].mark, []

    def fail_first() -> Mark:
        calls.append(1)
        if len(calls) % 2:
            raise OSError("busy")
        return mark()

    monkeypatch.setattr(cpu, "mark", fail_first)
    with meter.window("x") as w:
        spin(0.02)
        with w.paused():
            pass
    assert len(calls) == 8  # two marks for each of the two stretches
    assert w.reading.sources[0].valid


def test_a_source_whose_polls_fail_does_not_end_the_sampler(meter, monkeypatch) -> None:
    polled = threading.Event()
    cpu, ram = meter._sources

    def fail() -> None:
        raise OSError

    monkeypatch.setattr(cpu, "poll_interval_s", 0.01)
    monkeypatch.setattr(cpu, "poll", fail)
    monkeypatch.setattr(ram, "poll_interval_s", 0.05)
    monkeypatch.setattr(ram, "poll", polled.set)
    with meter.window("x"):
        polled.clear()
        assert polled.wait(10)


def test_sources_are_polled_only_while_a_window_is_open(meter: EnergyMeter, monkeypatch: pytest.MonkeyPatch) -> None:
    polls: list[float] = []
    ram = meter._sources[1]
    monkeypatch.setattr(ram, "poll_interval_s", 0.005)
    monkeypatch.setattr(ram, "poll", lambda: polls.append(time.perf_counter()))
    for _ in range(2):
        with meter.window("a"), meter.window("b"):
            seen = len(polls)
            while len(polls) < seen + 3:
                time.sleep(0.005)
        time.sleep(0.02)  # a poll that had begun may end
        seen = len(polls)
        time.sleep(0.1)
        assert len(polls) == seen


def test_a_meter_that_is_closed_or_forgotten_leaves_no_thread(tmp_path: Path) -> None:
    def samplers() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t.name == "greenprune-energy"]

    before = samplers()
    closed, forgotten = EnergyMeter("cpu", powercap=tmp_path), EnergyMeter("cpu", powercap=tmp_path)
    for meter in (closed, forgotten):
        monkey = meter._sources[1]
        monkey.poll_interval_s = 0.01
        with meter.window("x"):
            pass
    mine = [t for t in samplers() if t not in before]
    assert len(mine) == 2
    closed.close()
    del closed, forgotten, meter, monkey
    gc.collect()
    for thread in mine:
        thread.join(10)
        assert not thread.is_alive()


def test_power_is_modelled_where_there_is_no_sensor(meter: EnergyMeter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenprune.bench.energy.live.POWER_SPAN_S", 0.0)
    meter.power_w()
    spin(0.3)
    power_w = meter.power_w()
    assert power_w is not None
    assert 0 < power_w <= 1.2 * watts(meter)


def test_power_never_raises(meter: EnergyMeter, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError

    monkeypatch.setattr("greenprune.bench.energy.live.POWER_SPAN_S", 0.0)
    for source in meter._sources:
        monkeypatch.setattr(source, "mark", fail)
    meter.power_w()
    assert meter.power_w() is None


def test_describe_tells_what_is_there_and_why_the_rest_is_not(meter: EnergyMeter) -> None:
    rows = {row["source"]: row for row in meter.describe()}
    assert rows["cpu"]["available"]
    assert "W per busy core" in rows["cpu"]["detail"]
    assert not rows["nvml"]["available"]
    assert "device is the CPU" in rows["nvml"]["reason"]
    assert "no RAPL domain" in rows["rapl"]["reason"]


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "tpu:0", ""])
def test_a_device_that_does_not_exist_is_an_error(device: str) -> None:
    with pytest.raises(ValueError, match="is neither"):
        EnergyMeter(device)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_that_does_not_measure_reads_no_sensor(meter: EnergyMeter, monkeypatch) -> None:
    """Data loaders fork; to start NVML in each of their workers would cost time."""
    calls: list[int] = []
    monkeypatch.setattr(meter._sources[0], "mark", lambda: calls.append(1))
    pid = os.fork()
    if pid == 0:
        os._exit(len(calls))
    assert os.waitpid(pid, 0)[1] == 0


def test_windows_from_threads(meter: EnergyMeter) -> None:
    readings = []

    def work() -> None:
        for _ in range(20):
            with meter.window("x") as w:
                pass
            readings.append(w.reading)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(readings) == 80
    assert all(s.valid for r in readings for s in r.sources)
    assert meter._sampling.open_windows == []


def test_importing_costs_neither_torch_nor_codecarbon_nor_nvml() -> None:
    code = "import sys, greenprune.bench.energy; " + (
        "print([m for m in ('torch', 'codecarbon', 'pynvml', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
