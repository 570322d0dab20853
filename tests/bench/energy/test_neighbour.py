"""The same work beside a busy process of another tree: our modelled CPU follows the work alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest
from greenprune.bench.energy.usage.processors import this_core_power

from tests.bench.energy.neighbour import busy_stranger, compare, ours, work

needs_two_cores = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two cores"
)


@needs_two_cores
def test_beside_a_busy_process_only_the_works_own_cpu_time_counts() -> None:
    """Also where the machine is fully loaded anyway, and a neighbour more would change the whole machine's load little."""
    joules = ours()
    with busy_stranger(sorted(os.sched_getaffinity(0))[-1]):
        begun_s = time.process_time()
        counted_j = joules(work)
        own_s = time.process_time() - begun_s
    assert counted_j == pytest.approx(own_s * this_core_power().power_w, rel=0.15)


@needs_two_cores
def test_the_same_work_beside_a_busy_process_costs_the_same() -> None:
    """Per second of its own CPU time: that the work itself takes longer where a core's threads share it is a true cost, and
    varies with the machine (see `neighbour.json` for the plain ratio)."""
    joules = ours()

    def per_cpu_second(task: Callable[[], None]) -> float:
        begun_s = time.process_time()
        counted_j = joules(task)
        return counted_j / (time.process_time() - begun_s)

    found = compare(per_cpu_second, sorted(os.sched_getaffinity(0))[-2:], pairs=6)
    # The neighbour burns as much as the work: were it counted, even in part, this would be far from 1.
    assert 0.95 <= found.ratio <= 1.05
