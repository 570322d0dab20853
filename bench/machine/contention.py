"""How much of the processor others took while something was measured: its seconds and joules are then too high."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil

TOLERATED_CORES = 0.25
"""Of the whole machine. Less than this hardly shows in a training time."""


@dataclass(frozen=True)
class Usage:
    """Processor time since some beginning, in seconds summed over cores. Only differences mean anything."""

    time_s: float
    own_s: float  # of this process
    all_s: float  # of all processes on this machine
    stolen_s: float  # ready to run, but the hypervisor gave the core to another machine


def usage() -> Usage:
    """Processor time until now. Where the system does not tell of stolen time it is 0."""
    times = psutil.cpu_times()
    everyone_s = sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))
    return Usage(time.perf_counter(), time.process_time(), everyone_s, getattr(times, "steal", 0.0))


def contention(start: Usage, end: Usage, what: str) -> list[str]:
    """A warning when others used more than `TOLERATED_CORES` cores between `start` and `end`, else none.

    Args:
        what: what was going on, "training" for example.
    """
    duration_s = max(1e-9, end.time_s - start.time_s)
    others = max(0.0, (end.all_s - start.all_s) - (end.own_s - start.own_s)) / duration_s
    stolen = max(0.0, end.stolen_s - start.stolen_s) / duration_s
    if others + stolen <= TOLERATED_CORES:
        return []
    return [
        f"{what}: the machine was shared: on average {others:.1f} cores ran other processes and {stolen:.1f} cores were "
        "stolen by other virtual machines; its seconds and joules are too high, run it again on a quiet machine"
    ]
