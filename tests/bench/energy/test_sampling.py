"""When the sampler looks at its sources, by a clock that a test moves."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from greenprune.bench.energy import sampling
from greenprune.bench.energy.source import Mark

POLL_S = 0.0004  # that one poll takes
CARDS = 8


class Clock:
    """Stands for the module `time`."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def perf_counter(self) -> float:
        return self.now_s

    def sleep(self, duration_s: float) -> None:
        assert duration_s >= 0
        self.now_s += duration_s


def card(clock: Clock, index: int, wait_s: float) -> SimpleNamespace:
    """A source that asks for a second look `wait_s` after its poll."""
    made = SimpleNamespace(name=f"nvml:{index}", kind="measured", poll_interval_s=0.1, wait_s=wait_s, looked_s=[])

    def poll() -> None:
        clock.now_s += POLL_S
        made.polled_s = clock.now_s

    made.poll = poll
    made.mark = lambda: Mark(clock.now_s, 0.0)
    made.last_sample = lambda: None
    made.second_look_s = lambda: made.wait_s
    made.look_again = lambda: made.looked_s.append(clock.now_s)
    return made


@pytest.mark.parametrize("waits_s", [[0.036] * CARDS, [0.1 - 0.01 * i for i in range(CARDS)]])
def test_second_looks_come_when_each_source_asked_for_them(
    monkeypatch: pytest.MonkeyPatch, waits_s: list[float]
) -> None:
    clock = Clock()
    monkeypatch.setattr(sampling, "time", clock)
    cards = [card(clock, index, wait_s) for index, wait_s in enumerate(waits_s)]
    sampling.Sampling(cards, threading.Lock())._poll()  # type: ignore[arg-type]
    for each in cards:
        (looked_s,) = each.looked_s
        assert looked_s - each.polled_s == pytest.approx(each.wait_s, abs=1e-9)
    assert clock.now_s - 100 <= max(waits_s) + CARDS * POLL_S + 1e-9


def test_a_look_that_is_overdue_is_not_slept_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(sampling, "time", clock)
    cards = [card(clock, 0, 0.0001), card(clock, 1, 0.05)]
    sampling.Sampling(cards, threading.Lock())._poll()  # type: ignore[arg-type]
    assert cards[0].looked_s == [cards[1].polled_s]
