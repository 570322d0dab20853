"""What processes hold together, from each one's resident memory and its part of what it shares."""

from __future__ import annotations

import pytest
from greenprune.bench.energy.usage import memory
from greenprune.bench.energy.usage.memory import EVERY_S, LOOK_SHARE, Parts

MB = 10**6
MAIN, OTHERS = (1, 0), [(pid, 5) for pid in range(2, 18)]
FORKED = dict.fromkeys([MAIN, *OTHERS], 300 * MB)


class Machine:
    """Tells what it is set to, and counts how often it is asked."""

    def __init__(self) -> None:
        self.parts: dict[int, int] = {}
        self.asked = 0
        self.time_s = 100.0
        self.took_s = 0.0

    def part_bytes(self, pid: int) -> int | None:
        self.asked += 1
        self.took_s += 0.01
        return self.parts.get(pid)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(memory, "_part_bytes", made.part_bytes)
    monkeypatch.setattr(memory, "_machine_bytes", lambda: (1000 * MB, 2000 * MB))
    monkeypatch.setattr("time.perf_counter", lambda: made.time_s)
    monkeypatch.setattr("time.thread_time", lambda: made.took_s)
    return made


def test_parts_that_are_told_add_up(machine: Machine) -> None:
    machine.parts = dict.fromkeys(range(1, 18), 300 * MB // 17)
    parts = Parts()
    parts.look(FORKED)
    assert parts.of(FORKED) == pytest.approx((300 * MB,) * 3, rel=1e-6)


def test_what_came_since_is_a_processs_own(machine: Machine) -> None:
    machine.parts = {1: 200 * MB}
    parts = Parts()
    parts.look({MAIN: 300 * MB})
    assert parts.of({MAIN: 350 * MB}).held == 250 * MB
    assert parts.of({MAIN: 30 * MB}).held == 20 * MB


def test_where_nothing_is_told_the_bounds_are_the_largest_and_what_the_machine_has_given_out(machine: Machine) -> None:
    parts = Parts()
    parts.look(FORKED)
    assert parts.of(FORKED) == (1000 * MB, 300 * MB, 2000 * MB)
    assert parts.of({MAIN: 300 * MB, OTHERS[0]: 50 * MB}) == (350 * MB, 300 * MB, 350 * MB)
    assert parts.of({MAIN: 3000 * MB}) == (3000 * MB,) * 3  # nobody to share with
    assert (
        parts.of({MAIN: 3000 * MB, OTHERS[0]: 50 * MB}) == (3000 * MB,) * 3
    )  # files count, which the machine could drop
    assert parts.of({}) == (0, 0, 0)


def test_new_workers_share_as_those_before_them_did(machine: Machine) -> None:
    machine.parts = dict.fromkeys(range(1, 18), 300 * MB // 17)
    parts = Parts()
    parts.look(FORKED)
    new = {MAIN: 300 * MB} | {(pid + 100, 9): 300 * MB for pid, _ in OTHERS}
    held, low, high = parts.of(new)
    assert (held, low, high) == pytest.approx((300 * MB, 300 * MB, 2000 * MB), rel=1e-6)
    assert parts.of({MAIN: 300 * MB}) == (300 * MB,) * 3  # all workers have ended


def test_to_look_is_seldom_and_costs_little(machine: Machine) -> None:
    parts = Parts()
    machine.parts = {1: MB, 2: MB}
    parts.look({MAIN: MB})
    assert machine.asked == 1
    machine.time_s += 9.9
    parts.look({MAIN: MB, OTHERS[0]: MB})  # another process, too soon after what took 10 ms
    assert machine.asked == 1
    machine.time_s = 100 + 0.01 / LOOK_SHARE + 0.1
    parts.look({MAIN: MB, OTHERS[0]: MB})
    assert machine.asked == 3


def test_where_a_look_costs_nothing_the_same_processes_are_looked_at_every_few_seconds(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.thread_time", lambda: 0.0)
    parts = Parts()
    for after_s, asked in ((0.0, 1), (EVERY_S - 0.1, 1), (EVERY_S + 0.1, 2)):
        machine.time_s = 100.0 + after_s
        parts.look({MAIN: MB})
        assert machine.asked == asked
