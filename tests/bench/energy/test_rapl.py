"""RAPL against a tree of files like Linux's /sys/class/powercap."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.energy.parts import adds_up
from greenprune.bench.energy.rapl import find_rapl

RANGE_UJ = 262_143_328_850


def zone(folder: Path, name: str, energy_uj: int | str = 0) -> Path:
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    return folder


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    """Two packages with memory, their parts listed beside them as Linux does, and what must not be counted again."""
    for i in range(2):
        package = zone(tmp_path / f"devices/intel-rapl:{i}", f"package-{i}", 1_000_000)
        parts = [zone(package / f"intel-rapl:{i}:0", "core"), zone(package / f"intel-rapl:{i}:1", "dram", 500_000)]
        for path in (package, *parts):
            (tmp_path / path.name).symlink_to(path)
    for name, label in (("intel-rapl:2", "psys"), ("intel-rapl-mmio:0", "package-0")):
        (tmp_path / name).symlink_to(zone(tmp_path / "devices" / name, label))
    return tmp_path


def meter(powercap: Path) -> EnergyMeter:
    return EnergyMeter("cpu", powercap=powercap)


def add(powercap: Path, name: str, joules: float) -> None:
    file = powercap / name / "energy_uj"
    file.write_text(str((int(file.read_text()) + int(joules * 1e6)) % (RANGE_UJ + 1)))


def test_packages_and_memory_are_counted_once(powercap: Path) -> None:
    sources, problems = find_rapl(powercap)
    assert [s.name for s in sources] == ["rapl:package-0", "rapl:dram-0", "rapl:package-1", "rapl:dram-1"]
    assert problems == []


def test_joules_of_a_window_are_the_counters_difference_and_nothing_is_modelled_beside_them(powercap: Path) -> None:
    with meter(powercap).window("x") as w:
        add(powercap, "intel-rapl:0", 5.5)
        add(powercap, "intel-rapl:1", 3)
        add(powercap, "intel-rapl:0:1", 1)
        add(powercap, "intel-rapl:1:1", 0.5)
    joules = {s.name: s.energy_j for s in w.reading.sources if adds_up(s.name)}
    expected = {"rapl:package-0": 5.5, "rapl:package-1": 3, "rapl:dram-0": 1, "rapl:dram-1": 0.5}
    assert joules == pytest.approx(expected)
    assert w.reading.energy_j("measured") == pytest.approx(10)
    assert w.reading.energy_j("modelled") is None


def test_without_a_counter_for_memory_it_is_modelled_and_the_cpu_is_not(tmp_path: Path) -> None:
    zone(tmp_path / "intel-rapl:0", "package-0")
    with meter(tmp_path).window("x") as w:
        add(tmp_path, "intel-rapl:0", 2)
    assert [(s.name, s.kind) for s in w.reading.sources] == [("rapl:package-0", "measured"), ("ram", "modelled")]


def test_a_full_counter_starts_again_at_zero(powercap: Path) -> None:
    file = powercap / "intel-rapl:0" / "energy_uj"
    file.write_text(str(RANGE_UJ - 2_000_000))
    with meter(powercap).window("x") as w:
        file.write_text("3000000")
    reading = next(s for s in w.reading.sources if s.name == "rapl:package-0")
    assert reading.energy_j == pytest.approx(5, rel=1e-6)


def test_every_wraparound_counts_as_long_as_the_counter_is_polled(powercap: Path) -> None:
    source = find_rapl(powercap)[0][0]
    file = powercap / "intel-rapl:0" / "energy_uj"
    start = source.mark()
    for energy_uj in (RANGE_UJ - 1_000_000, 1_000_000, RANGE_UJ - 1_000_000, 1_000_000):
        source._counters[0]._max_power_w = 1e12  # what takes half an hour here happens at once
        file.write_text(str(energy_uj))
        source.poll()
    assert source.mark().total_j - start.total_j == pytest.approx(2 * RANGE_UJ / 1e6, rel=1e-6)


def test_a_reset_is_invalid_rather_than_a_wraparound(powercap: Path) -> None:
    file = powercap / "intel-rapl:0" / "energy_uj"
    with meter(powercap).window("x") as w:
        file.write_text("0")  # from 1 J: round the whole range it would be 262 kJ in no time
    reading = next(s for s in w.reading.sources if s.name == "rapl:package-0")
    assert reading.energy_j is None
    assert "reset" in (reading.reason or "")


def test_a_counter_that_stands_still_is_invalid_and_not_zero(powercap: Path) -> None:
    with meter(powercap).window("x") as w:
        pass
    assert all(s.energy_j is None and "stood still" in (s.reason or "") for s in w.reading.sources)


@pytest.mark.parametrize("content", [None, "no number"])
def test_a_counter_that_fails_in_the_window_is_invalid(powercap: Path, content: str | None) -> None:
    file = powercap / "intel-rapl:1" / "energy_uj"
    with meter(powercap).window("x") as w:
        file.unlink() if content is None else file.write_text(content)
    reading = next(s for s in w.reading.sources if s.name == "rapl:package-1")
    assert reading.energy_j is None
    assert "energy_uj" in (reading.reason or "")


def test_an_unreadable_counter_is_not_used_and_the_cpu_is_modelled_instead(powercap: Path) -> None:
    file = powercap / "intel-rapl:1" / "energy_uj"
    if os.geteuid() == 0:  # root reads everything: make it fail otherwise
        file.unlink()
        file.mkdir()
    else:
        file.chmod(0)
    m = meter(powercap)
    row = next(d for d in m.describe() if d["source"] == "rapl:package-1")
    assert not row["available"]
    assert "cannot be read" in row["reason"]
    assert "chmod" in row["remedy"]
    with m.window("x") as w:
        pass
    assert [s.name for s in w.reading.sources if adds_up(s.name)] == ["cpu", "ram"]


def test_no_powercap_at_all_says_so(tmp_path: Path) -> None:
    sources, (row,) = find_rapl(tmp_path / "nothing")
    assert sources == []
    assert "no RAPL domain" in row["reason"]
