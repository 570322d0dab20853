"""RAPL against a tree of files like Linux's /sys/class/powercap."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.energy.counting.totals import Counter
from greenprune.bench.energy.parts import adds_up
from greenprune.bench.energy.rapl.domains import find_rapl
from greenprune.bench.energy.rapl.mirrors import Mirrors

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


@pytest.mark.parametrize("content", [None, "0", "no number"])
def test_a_counter_whose_range_is_not_told_counts_and_going_back_is_a_reset(tmp_path: Path, content) -> None:
    file = zone(tmp_path / "intel-rapl:0", "package-0", 9_000_000) / "max_energy_range_uj"
    file.unlink() if content is None else file.write_text(content)
    m = meter(tmp_path)
    with m.window("x") as forwards:
        add(tmp_path, "intel-rapl:0", 2)
    assert forwards.reading.energy_j("measured") == pytest.approx(2)
    with m.window("x") as back:
        (tmp_path / "intel-rapl:0/energy_uj").write_text("1000000")
    assert back.reading.energy_j("measured") is None
    assert "reset" in back.reading.sources[0].reason
    assert m.describe()[0]["range_j"] is None


# ---- dies that mirror one counter


def dies(powercap: Path, *packages: str, energies_uj: tuple[int, ...] = ()) -> Path:
    for i, name in enumerate(packages):
        zone(powercap / f"intel-rapl:{i}", name, energies_uj[i] if energies_uj else 1_000_000)
    return powercap


def joules(window) -> dict[str, float | None]:
    return {s.name: s.energy_j for s in window.reading.sources if s.name.startswith("rapl")}


def test_dies_that_mirror_their_socket_count_once_and_the_reading_says_so(tmp_path: Path) -> None:
    names = [f"package-{socket}-die-{die}" for socket in range(2) for die in range(4)]
    dies(tmp_path, *names, energies_uj=(7, 7, 7, 7, 9, 9, 9, 9))
    with meter(tmp_path) as m:
        with m.window("x") as w:
            for i in range(8):
                add(tmp_path, f"intel-rapl:{i}", 10 if i < 4 else 6)
        assert joules(w) == pytest.approx({"rapl:package-0": 10, "rapl:package-1": 6})
        basis = w.reading.sources[0].basis or ""
        assert all(name in basis for name in names[:4])
        assert "mirrors of one counter" in basis
        row = next(row for row in m.describe() if row["source"] == "rapl:package-1")
        assert row["mirrors"] == [names[4:]]
        assert "mirrors" in row["detail"]


def test_dies_that_differ_are_added_up(tmp_path: Path) -> None:
    dies(tmp_path, "package-0-die-0", "package-0-die-1")  # equal at first, as after a start of the machine
    with meter(tmp_path).window("x") as w:
        add(tmp_path, "intel-rapl:0", 5.0)
        add(tmp_path, "intel-rapl:1", 5.1)
    assert joules(w) == pytest.approx({"rapl:package-0": 10.1})


def test_some_dies_may_be_mirrors_and_others_not(tmp_path: Path) -> None:
    dies(tmp_path, "package-0-die-0", "package-0-die-1", "package-0-die-2", energies_uj=(5, 5, 900_000_000))
    with meter(tmp_path).window("x") as w:
        for i, energy_j in enumerate((4, 4, 3)):
            add(tmp_path, f"intel-rapl:{i}", energy_j)
    assert joules(w) == pytest.approx({"rapl:package-0": 7})


def test_mirrors_that_show_in_a_later_window_were_never_counted_twice(tmp_path: Path) -> None:
    dies(tmp_path, "package-0-die-0", "package-0-die-1")
    with meter(tmp_path) as m:
        with m.window("still"):
            pass
        with m.window("outer") as outer, m.window("small") as small:
            for i in range(2):
                add(tmp_path, f"intel-rapl:{i}", 0.4)
        (reading,) = [s for s in small.reading.sources if s.name == "rapl:package-0"]
        assert reading.low_j is not None
        assert reading.low_j <= 0.4 <= (reading.high_j or 0)  # two equal looks, so little apart: the bounds hold both
        with m.window("later") as later:
            for i in range(2):
                add(tmp_path, f"intel-rapl:{i}", 5)
    assert joules(later) == pytest.approx({"rapl:package-0": 5})
    assert outer.reading.sources[0].valid


@pytest.mark.parametrize("lag", [0, 1])
def test_mirrors_are_found_although_they_move_between_two_reads(lag: int) -> None:
    """`lag`: the second counter is updated after the first, and looks come at any time."""
    random.seed(4)
    mirrors = Mirrors([RANGE_UJ + 1] * 2)
    value_uj = RANGE_UJ - 20_000_000
    for _ in range(200):
        value_uj += random.choice([0, 30_000, 300_000])
        now = value_uj % (RANGE_UJ + 1)
        behind = (value_uj - (lag * 300_000 if random.random() < 0.5 else 0)) % (RANGE_UJ + 1)
        mirrors.look([now, behind], [now, behind])
    assert mirrors.groups() == [[0, 1]]


def test_dies_of_nearly_the_same_power_are_two(tmp_path: Path) -> None:
    mirrors = Mirrors([RANGE_UJ + 1] * 2)
    for i in range(1, 400):
        a, b = i * 1_000_000, int(i * 1_003_000)
        mirrors.look([a, b], [a + 10, b + 10])
    assert mirrors.groups() == [[0], [1]]


# ---- a counter that goes round while nobody looks


class Clocks:
    """perf_counter, the clocks that go on while a machine is suspended, and by how much the wall clock was set forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = self.asleep_s = self.set_s = 0.0
        monkeypatch.setattr("greenprune.bench.energy.counting.totals.time.perf_counter", lambda: self.now_s)

    def others_s(self) -> tuple[float, float]:
        return self.now_s + self.asleep_s, self.now_s + self.asleep_s + self.set_s


def counter(clocks: Clocks, value: list[float], wrap_j: float, plausible_w: float = 500.0) -> Counter:
    return Counter(
        lambda: value[0] % wrap_j,
        max_power_w=5000.0,
        stale_s=1e-3,
        wrap_j=wrap_j,
        plausible_w=plausible_w,
        clocks_s=clocks.others_s,
    )


def test_what_went_round_unseen_is_in_the_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks, value = Clocks(monkeypatch), [100.0]
    seen = counter(clocks, value, 1000.0)
    start = seen.mark()
    for _ in range(10):
        clocks.now_s += 1.0
        value[0] += 400.0
        assert seen.mark().unseen_j == 0
    clocks.now_s += 10.0  # stopped: 4000 J, of which the counter shows the rest of a division by 1000
    value[0] += 4000.0
    end = seen.mark()
    energy_j = end.total_j - start.total_j
    assert energy_j <= 8000 <= energy_j + end.unseen_j - start.unseen_j
    assert end.unseen_j <= 500 * 10.1


def test_a_suspend_counts_as_time_and_a_counter_that_went_back_over_it_as_reset(monkeypatch) -> None:
    clocks, value = Clocks(monkeypatch), [100.0]
    seen = counter(clocks, value, 1000.0)
    start = seen.mark()
    clocks.asleep_s += 3600.0
    value[0] += 50.0
    assert seen.mark().unseen_j > 1e6
    clocks.asleep_s += 60.0
    value[0] = 3.0
    end = seen.mark()
    assert end.resets == start.resets + 1
    assert "suspended" in (end.reason or "")


def test_a_wall_clock_that_is_set_forward_excuses_a_large_step_and_lets_nothing_have_gone_unseen(monkeypatch) -> None:
    clocks, value = Clocks(monkeypatch), [100.0]
    seen = counter(clocks, value, 10_000.0)
    seen.mark()
    for step_j in (100.0, 6000.0):  # the second is more than 5000 W in a second: of a machine that was paused
        clocks.now_s += 1.0
        clocks.set_s += 3600.0
        value[0] += step_j
        mark = seen.mark()
        assert (mark.resets, mark.unseen_j) == (0, 0)
    clocks.now_s += 10.0  # at 500 W less than its range
    assert seen.mark().unseen_j == 0


def test_a_window_over_a_stop_holds_the_truth_or_is_invalid(tmp_path: Path) -> None:
    """The clocks of the counter jump instead of the test being stopped."""
    zone(tmp_path / "intel-rapl:0", "package-0", 1_000_000)
    with meter(tmp_path) as m:
        source = m._sources[0]
        (made,) = source._counters  # type: ignore[attr-defined]
        gone_s = [0.0]
        made._clocks_s = lambda: (time.monotonic() + gone_s[0], time.time() + gone_s[0])
        with m.window("much seen") as bounded:
            add(tmp_path, "intel-rapl:0", 5)
            source.poll()
            gone_s[0] += 60.0  # 60 s of 5 kW are more than the range of 262 kJ
            made._plausible_w = 5000.0
        (reading,) = [s for s in bounded.reading.sources if s.name == "rapl:package-0"]
        assert reading.energy_j is None
        assert "gone round unseen" in (reading.reason or "").replace("may have gone", "gone")


def test_what_a_domain_may_draw_comes_from_its_constraints(tmp_path: Path) -> None:
    folder = zone(tmp_path / "intel-rapl:0", "package-0", 1_000_000)
    (folder / "max_energy_range_uj").write_text("65532610987")
    assert find_rapl(tmp_path)[0][0]._counters[0]._plausible_w == 5000.0
    (folder / "constraint_0_max_power_uw").write_text("250000000")
    (folder / "constraint_1_power_limit_uw").write_text("300000000")
    (source,) = find_rapl(tmp_path)[0]
    assert source._counters[0]._plausible_w == 600.0
    (folder / "max_energy_range_uj").write_text("120000000")  # 120 J at 600 W: 0.2 s
    assert find_rapl(tmp_path)[0][0].poll_interval_s == pytest.approx(0.05)
