"""RAPL's platform domain and the second path to a package."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import pytest
from greenprune.bench.energy.sources import psys

from tests.bench.energy.rapl.test_rapl import RANGE_UJ, zone
from tests.bench.energy.sources.trees import joules, meter, rows, unreadable


def add(zone: Path, energy_j: float) -> None:
    file = zone / "energy_uj"
    file.write_text(str((int(file.read_text()) + int(energy_j * 1e6)) % (RANGE_UJ + 1)))


def test_the_platform_contains_the_package_and_is_not_added_to_it(tmp_path: Path) -> None:
    cap = tmp_path / "class/powercap"
    package, platform = (
        zone(cap / "intel-rapl:0", "package-0", 1_000_000),
        zone(cap / "intel-rapl:1", "psys", 1_000_000),
    )
    with meter(tmp_path).window("x") as w:
        add(package, 3)
        add(platform, 8)
    assert joules(w.reading)["machine:psys"] == pytest.approx(8)
    assert w.reading.energy_j("measured") == pytest.approx(3)
    assert [s.name for s in w.reading.whole_machine()] == ["machine:psys"]


def test_the_platforms_counter_goes_round_like_the_others(tmp_path: Path) -> None:
    platform = zone(tmp_path / "class/powercap/intel-rapl:1", "psys", RANGE_UJ - 1_000_000)
    with meter(tmp_path).window("x") as w:
        add(platform, 4)
    assert joules(w.reading)["machine:psys"] == pytest.approx(4, rel=1e-5)


def test_a_platform_may_use_more_than_a_package_can(tmp_path: Path) -> None:
    """8 kW: a server with all of its GPUs."""
    platform = zone(tmp_path / "class/powercap/intel-rapl:1", "psys", 1_000_000)
    with meter(tmp_path).window("x") as w:
        begin_s = time.perf_counter()
        time.sleep(0.2)
        used_j = 8000 * (time.perf_counter() - begin_s)
        add(platform, used_j)
    assert joules(w.reading)["machine:psys"] == pytest.approx(used_j, rel=1e-5)


@pytest.mark.parametrize(("step_uj", "told_j"), [(1_000_000, 1.0), (61.03515625, None), (0, None)])
def test_the_step_of_the_platforms_counter_is_what_its_values_have_in_common(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_uj: float, told_j: float | None
) -> None:
    zone(tmp_path / "class/powercap/intel-rapl:1", "psys", 1_000_000)
    steps = itertools.count(4711)
    monkeypatch.setattr(psys, "read_number", lambda _: int(next(steps) * step_uj))
    assert rows(meter(tmp_path))["machine:psys"]["resolution_j"] == told_j


def test_an_unreadable_platform_hides_no_package(tmp_path: Path) -> None:
    cap = tmp_path / "class/powercap"
    package, platform = (
        zone(cap / "intel-rapl:0", "package-0", 1_000_000),
        zone(cap / "intel-rapl:1", "psys", 1_000_000),
    )
    unreadable(platform / "energy_uj")
    m = meter(tmp_path)
    assert not rows(m)["machine:psys"]["available"]
    assert "udevadm" in rows(m)["machine:psys"]["remedy"]
    with m.window("x") as w:
        add(package, 3)
    assert w.reading.energy_j("measured") == pytest.approx(3)


def test_one_package_by_two_paths_counts_once(tmp_path: Path) -> None:
    cap = tmp_path / "class/powercap"
    zones = [zone(cap / name, "package-0", 1_000_000) for name in ("intel-rapl:0", "intel-rapl-mmio:0")]
    with meter(tmp_path).window("x") as w:
        for path in zones:
            add(path, 3)
    assert w.reading.energy_j("measured") == pytest.approx(3)


def test_a_package_that_is_there_by_the_second_path_alone_is_counted(tmp_path: Path) -> None:
    package = zone(tmp_path / "class/powercap/intel-rapl-mmio:0", "package-0", 1_000_000)
    memory = zone(package / "intel-rapl-mmio:0:0", "dram", 0)
    with meter(tmp_path).window("x") as w:
        add(package, 3)
        add(memory, 1)
    assert joules(w.reading) == pytest.approx({"rapl:package-0": 3, "rapl:dram-0": 1})


def test_the_period_of_the_platforms_counter_is_measured(tmp_path: Path) -> None:
    """Some machines update it 10 times a second, not 1000."""
    file = zone(tmp_path / "class/powercap/intel-rapl:1", "psys", 1_000_000) / "energy_uj"
    stop = threading.Event()

    def count() -> None:
        while not stop.wait(0.02):
            file.with_suffix(".new").write_text(str(int(time.perf_counter() * 1e8)))
            file.with_suffix(".new").rename(file)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        assert rows(meter(tmp_path))["machine:psys"]["period_s"] == pytest.approx(0.02, abs=0.019)
        assert rows(meter(tmp_path))["machine:psys"]["period_s"] > 0.005
    finally:
        stop.set()
        thread.join()
