"""RAPL by perf_event_open: the tree of the PMU "power", and the system call itself with an event that is always there."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
from greenprune.bench.energy.sensors.perf_event import PerfDeniedError, PerfEvent
from greenprune.bench.energy.source import SensorError
from greenprune.bench.energy.sources import rapl_perf

from tests.bench.energy.rapl.test_rapl import zone
from tests.bench.energy.sources.trees import joules, meter, place, rows, unreadable, write

JOULE = 2**32


def pmu(sysfs: Path, mask: str = "0", events: tuple[str, ...] = ("cores", "pkg", "ram"), **files: Any) -> Path:
    folder = sysfs / "bus/event_source/devices/power"
    write(folder, **({"type": 17, "cpumask": mask} | files))
    codes = {"cores": 1, "pkg": 2, "ram": 3, "gpu": 4, "psys": 5}
    for event in events:
        name = f"energy-{event}"
        scale = {f"{name}.scale": "2.3283064365386962890625e-10", f"{name}.unit": "Joules"}
        write(folder / "events", **{name: f"event=0x{codes[event]:02x}"}, **scale)
    return folder


def topology(sysfs: Path, *cpus: tuple[int, int, int], vendor: str = "GenuineIntel") -> None:
    """CPU, package and die of each."""
    for cpu, package, die in cpus:
        write(sysfs / f"devices/system/cpu/cpu{cpu}/topology", physical_package_id=package, die_id=die)
    write(sysfs / "root/proc", cpuinfo=f"vendor_id\t: {vendor}")


class Counters:
    """Stands for the kernel: a counter for each event on each CPU."""

    def __init__(self) -> None:
        self.counts: dict[tuple[int, int], int] = {}
        self.closed = 0

    def __call__(self, event_type: int, config: int, cpu: int) -> Any:
        assert event_type == 17
        key = (config, cpu)
        self.counts.setdefault(key, 0)
        outer = self

        class Opened:
            def read(self) -> int:
                return outer.counts[key]

            def close(self) -> None:
                outer.closed += 1

        return Opened()

    def use(self, config: int, cpu: int, energy_j: float) -> None:
        self.counts[config, cpu] += int(energy_j * JOULE)


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> Counters:
    made = Counters()
    monkeypatch.setattr(rapl_perf, "PerfEvent", made)
    return made


def test_packages_and_memory_are_counted_and_their_parts_are_not(tmp_path: Path, counters: Counters) -> None:
    pmu(tmp_path, "0,24", ("cores", "pkg", "ram", "psys"))
    topology(tmp_path, (0, 0, 0), (24, 1, 0))
    with meter(tmp_path).window("x") as w:
        for event, cpu, energy_j in ((2, 0, 5), (2, 24, 3), (3, 0, 1), (3, 24, 0.5), (5, 0, 9)):
            counters.use(event, cpu, energy_j)
    expected = {"rapl:package-0": 5, "rapl:package-1": 3, "rapl:dram-0": 1, "rapl:dram-1": 0.5, "machine:psys": 9}
    assert joules(w.reading) == pytest.approx(expected)
    assert w.reading.energy_j("measured") == pytest.approx(9.5)


def test_a_platform_may_use_more_than_a_package_can(tmp_path: Path, counters: Counters) -> None:
    pmu(tmp_path, "0", ("pkg", "psys"))
    topology(tmp_path, (0, 0, 0))
    with meter(tmp_path).window("x") as w:
        begin_s = time.perf_counter()
        time.sleep(0.2)
        used_j = 8000 * (time.perf_counter() - begin_s)
        counters.use(5, 0, used_j)
    assert joules(w.reading)["machine:psys"] == pytest.approx(used_j)


def test_the_step_is_what_the_values_have_in_common(tmp_path: Path) -> None:
    """The kernel tells every counter in 2^-32 J; the platform's unit is 1 J on some servers, a package's 2^-14 J."""
    pmu(tmp_path, "0", ("pkg", "psys"))
    topology(tmp_path, (0, 0, 0))

    class Opened:
        def __init__(self, _: int, config: int, __: int) -> None:
            self._values = itertools.count(0, JOULE if config == 5 else JOULE >> 14)

        def read(self) -> int:
            return next(self._values)

        def close(self) -> None:
            pass

    found = rapl_perf.find(place(tmp_path), Opened).sources  # type: ignore[arg-type]
    steps = {source.name: source.describe()["resolution_j"] for source in found}
    assert steps == {"rapl:package-0": 2.0**-14, "machine:psys": 1.0}


def test_a_readable_powercap_is_used_instead(tmp_path: Path, counters: Counters) -> None:
    pmu(tmp_path)
    topology(tmp_path, (0, 0, 0))
    zone(tmp_path / "class/powercap/intel-rapl:0", "package-0")
    with meter(tmp_path).window("x"):
        pass
    assert counters.counts == {}


def test_an_unreadable_powercap_is_replaced_and_only_the_doctor_speaks_of_it(
    tmp_path: Path, counters: Counters
) -> None:
    package = zone(tmp_path / "class/powercap/intel-rapl:0", "package-0")
    unreadable(package / "energy_uj")
    pmu(tmp_path)
    topology(tmp_path, (0, 0, 0))
    m = meter(tmp_path)
    assert all(row["available"] for row in m.describe() if row["source"].startswith("rapl"))
    assert any("energy_uj" in row["reason"] for row in m.absent)
    with m.window("x") as w:
        counters.use(2, 0, 4)
        counters.use(3, 0, 1)
    assert w.reading.energy_j("measured") == pytest.approx(5)


def test_dies_of_an_amd_package_are_mirrors_and_those_of_an_intel_one_are_not(
    tmp_path: Path, counters: Counters
) -> None:
    pmu(tmp_path, "0-1", ("pkg",))
    topology(tmp_path, (0, 0, 0), (1, 0, 1), vendor="AuthenticAMD")
    assert [s.name for s in rapl_perf.find(place(tmp_path), counters).sources] == ["rapl:package-0"]
    topology(tmp_path, (0, 0, 0), (1, 0, 1), vendor="GenuineIntel")
    found = [s.name for s in rapl_perf.find(place(tmp_path), counters).sources]
    assert found == ["rapl:package-0-die-0", "rapl:package-0-die-1"]


def test_without_permission_both_ways_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: int) -> Any:
        raise PerfDeniedError("perf_event_open: Permission denied")

    monkeypatch.setattr(rapl_perf, "PerfEvent", denied)
    package = zone(tmp_path / "class/powercap/intel-rapl:0", "package-0")
    unreadable(package / "energy_uj")
    pmu(tmp_path)
    topology(tmp_path, (0, 0, 0))
    found = rows(meter(tmp_path))
    assert "udevadm" in found["rapl:package-0"]["remedy"]
    assert "setcap cap_perfmon" in found["rapl-perf"]["remedy"]
    assert "perf_event_paranoid" in found["rapl-perf"]["remedy"]


def test_what_was_opened_before_a_failure_is_closed(tmp_path: Path, counters: Counters) -> None:
    folder = pmu(tmp_path)
    topology(tmp_path, (0, 0, 0))
    write(folder / "events", **{"energy-ram": "event=nonsense"})
    found = rapl_perf.find(place(tmp_path), counters)
    assert found.sources == ()
    assert "energy-ram" in found.unusable[0]["reason"]
    assert counters.closed == 1


@pytest.mark.parametrize("files", [{"type": "x"}, {"cpumask": ""}, {"cpumask": "0,x"}])
def test_a_pmu_that_makes_no_sense_is_told(tmp_path: Path, counters: Counters, files: dict[str, str]) -> None:
    pmu(tmp_path, **files)  # type: ignore[arg-type]
    found = rapl_perf.find(place(tmp_path), counters)
    assert found.sources == ()
    assert len(found.unusable) == 1


def test_a_missing_scale_is_the_kernels_own(tmp_path: Path, counters: Counters) -> None:
    folder = pmu(tmp_path, events=("pkg",))
    (folder / "events/energy-pkg.scale").unlink()
    with meter(tmp_path).window("x") as w:
        counters.use(2, 0, 4)
    assert joules(w.reading)["rapl:package-0"] == pytest.approx(4)


def test_the_system_call_counts(tmp_path: Path) -> None:
    """The software event "cpu-clock" counts the nanoseconds of a CPU: one "joule" a second."""
    folder = tmp_path / "bus/event_source/devices/power"
    write(folder, type=1, cpumask="0")
    write(folder / "events", **{"energy-pkg": "event=0x00", "energy-pkg.scale": "1e-9", "energy-pkg.unit": "Joules"})
    try:
        PerfEvent(1, 0, 0).close()
    except SensorError as e:
        pytest.skip(str(e))
    with meter(tmp_path).window("x") as w:
        time.sleep(0.3)
    assert joules(w.reading)["rapl:package-0"] == pytest.approx(w.reading.duration_s, rel=0.05)


def test_an_event_that_is_not_there_is_an_error_in_words() -> None:
    with pytest.raises(SensorError, match="perf_event_open"):
        PerfEvent(9999, 0, 0)
