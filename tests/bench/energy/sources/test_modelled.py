"""The model of CPU and memory: what it counts, and what it must not depend on."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time

import pytest
from greenprune.bench.energy.source import Mark, Segment
from greenprune.bench.energy.sources.modelled import CpuSource, RamSource
from greenprune.bench.energy.usage import processes
from greenprune.bench.energy.usage.processes import OwnTree, Usage, recent_tree_usage, tree_pids, tree_usage
from greenprune.bench.energy.usage.processors import CorePower

BURN = """
import sys, time
while time.process_time() < float(sys.argv[1]):
    pass
"""


def burn(cpu_s: float) -> list[str]:
    """Command of a process that ends after `cpu_s` of CPU time, however long that takes."""
    return [sys.executable, "-S", "-c", BURN, str(cpu_s)]


# ---- CPU time of the tree


def cpu_joules(work) -> float:
    """Joules at 10 W per core of what `work` does."""
    source = CpuSource(CorePower(10, 5, 20, "test"))
    start = source.mark()
    work()
    reading, _ = source.reading([Segment(start, source.mark())])
    assert reading.energy_j is not None
    return reading.energy_j


def spin(cpu_s: float) -> None:
    end_s = time.process_time() + cpu_s
    while time.process_time() < end_s:
        pass


def test_joules_are_cpu_time_by_watts() -> None:
    assert cpu_joules(lambda: spin(0.5)) == pytest.approx(5, rel=0.05)


def test_sleeping_costs_nothing() -> None:
    assert cpu_joules(lambda: time.sleep(0.3)) < 0.3


def test_a_child_that_has_finished_is_counted() -> None:
    assert cpu_joules(lambda: subprocess.run(burn(0.5), check=True)) == pytest.approx(5, rel=0.15)


def test_a_child_that_still_runs_and_its_children_are_counted() -> None:
    nested = f"import subprocess; subprocess.run({burn(0.4)!r}); import time; time.sleep(60)"
    before = len(tree_pids())  # what an earlier test may have left stays
    child = subprocess.Popen([sys.executable, "-S", "-c", nested])
    try:

        def wait() -> None:
            # Until the grandchild is gone: its time is then in its parent's account, and the parent still runs.
            while len(tree_pids()) < before + 2:
                time.sleep(0.01)
            while len(tree_pids()) > before + 1:
                time.sleep(0.02)

        assert cpu_joules(wait) == pytest.approx(4.5, rel=0.25)
    finally:
        child.kill()
        child.wait()


def test_a_child_that_was_busy_before_the_window_counts_only_for_what_it_does_in_it() -> None:
    before_s = tree_usage().cpu_s - time.process_time()
    child = subprocess.Popen(burn(0.8))
    while tree_usage().cpu_s - time.process_time() - before_s < 0.4 and child.poll() is None:
        time.sleep(0.01)
    assert cpu_joules(child.wait) < 5.5


def test_the_same_work_beside_a_busy_stranger_costs_the_same() -> None:
    """A process that is not of this tree may take as much CPU as it likes.

    Per second of the work's own CPU time, which grows where two threads of a core share it.
    """
    alone_w = cpu_watts(lambda: count(4_000_000))
    # Started by a shell that goes away, so that it belongs to another tree.
    stranger = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -S -c 'while True: pass' >/dev/null 2>&1 & echo $!"],
        capture_output=True,
        text=True,
        check=True,
    )
    pid = int(stranger.stdout)
    try:
        assert pid not in tree_pids()
        beside_w = cpu_watts(lambda: count(4_000_000))
    finally:
        os.kill(pid, 9)
    assert beside_w == pytest.approx(alone_w, rel=0.1)


def cpu_watts(work) -> float:
    begun_s = time.process_time()
    counted_j = cpu_joules(work)
    return counted_j / (time.process_time() - begun_s)


def count(to: int) -> None:
    total = 0
    for i in range(to):
        total += i


def test_bounds_hold_the_watts_and_the_clock_ticks_of_living_children() -> None:
    source = CpuSource(CorePower(10, 5, 20, "made up"))
    reading, _ = source.reading([Segment(Mark(0, 10.0, stale_s=0.1), Mark(1, 30.0, stale_s=0.2))])
    assert (reading.low_j, reading.energy_j, reading.high_j) == pytest.approx((1.9 * 5, 20, 2.2 * 20))
    assert "10.0 W per busy core" in (reading.note or "")
    assert "made up" in (reading.note or "")
    assert reading.kind == "modelled"


def test_time_that_went_missing_is_invalid_rather_than_negative() -> None:
    reading, _ = CpuSource(CorePower(10, 5, 20, "")).reading([Segment(Mark(0, 50), Mark(1, 20))])
    assert reading.energy_j is None
    assert "left the tree" in (reading.reason or "")


# ---- memory


def test_memory_is_the_mean_of_the_resident_bytes_by_watts() -> None:
    states = iter([(0.0, 8e9), (1.0, 16e9), (2.0, 16e9)])

    class Pretended(OwnTree):
        def recent(self, max_age_s: float):
            assert max_age_s <= 0.005
            time_s, resident = next(states)
            return modelled_usage(time_s, int(resident))

    source = RamSource(Pretended())
    start = source.mark()
    source.poll()
    reading, _ = source.reading([Segment(start, source.mark())])
    assert reading.energy_j == pytest.approx(3 + 6)
    assert reading.low_j == pytest.approx(24 * 0.1)
    assert reading.high_j == pytest.approx(24 * 0.6)
    assert "12.00 GB" in (reading.note or "")


def modelled_usage(time_s: float, resident_bytes: int):
    return Usage(time_s=time_s, cpu_s=0, resolution_s=0, resident={(0, 0): resident_bytes})


@pytest.mark.skipif(sys.platform != "linux", reason="a process's part of what it shares is told by Linux")
def test_memory_that_forked_processes_share_counts_once() -> None:
    held_gb, most_gb = (
        0.05,
        0.3,
    )  # what they hold together, above which is what this interpreter has; counted for each: 0.6
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=120, check=True)
    before_gb, low_gb, gb, high_gb = map(float, done.stdout.split())
    assert low_gb == gb == high_gb
    assert held_gb < gb < most_gb
    assert gb == pytest.approx(before_gb, abs=0.05)


FORKS = """
import mmap, os, signal, time
from greenprune.bench.energy.sources.modelled import RAM_HIGH_W_PER_GB, RAM_LOW_W_PER_GB, RAM_W_PER_GB, RamSource
from greenprune.bench.energy.source import Segment
block = mmap.mmap(-1, 50 << 20, flags=mmap.MAP_PRIVATE)
block[:] = b"x" * len(block)

def gb(source):
    start = source.mark()
    time.sleep(0.1)
    segment = Segment(start, source.mark())
    reading, _ = source.reading([segment])
    by_w = ((reading.low_j, RAM_LOW_W_PER_GB), (reading.energy_j, RAM_W_PER_GB), (reading.high_j, RAM_HIGH_W_PER_GB))
    return [round(joules / watts / segment.duration_s, 4) for joules, watts in by_w]

before = gb(RamSource())
forked = []
for _ in range(11):
    pid = os.fork()
    if not pid:
        signal.pause()
    forked.append(pid)
print(before[1], *gb(RamSource()))
for pid in forked:
    os.kill(pid, signal.SIGKILL)
"""


def test_memory_of_this_process_is_what_it_holds() -> None:
    before = sum(tree_usage().resident.values())
    with mmap.mmap(-1, 64 << 20) as block:  # a bytearray may get pages that an earlier test left behind
        for start in range(0, len(block), mmap.PAGESIZE):
            block[start] = 1
        assert sum(tree_usage().resident.values()) - before == pytest.approx(64 << 20, rel=0.1)


def test_a_recent_reading_is_shared_and_an_old_or_a_parents_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    read = tree_usage()
    shared = recent_tree_usage(60.0)
    assert (shared.cpu_s, shared.resident) == (read.cpu_s, read.resident)
    assert shared.time_s > read.time_s  # a window of a millisecond has its millisecond of memory
    busy_until_s = time.process_time() + 0.02
    while time.process_time() < busy_until_s:
        pass
    assert recent_tree_usage(0.005).cpu_s >= read.cpu_s + 0.02
    parents = Usage(time_s=time.perf_counter(), cpu_s=-1.0, resolution_s=0.0, resident={})
    monkeypatch.setattr(processes, "_last", (os.getpid() + 1, parents))
    assert recent_tree_usage(60.0).cpu_s > 0
