"""How much of the processor others took while something was measured: its seconds and joules are then too high."""

from __future__ import annotations

import os
from dataclasses import dataclass

import psutil
from greenprune.bench.energy.usage.processes import tree_usage

TOLERATED_CORES, TOLERATED_SHARE = 0.25, 0.01
"""Cores, or that share of all cores of the machine where it is more. Less than this hardly shows in a training time."""


@dataclass(frozen=True)
class Usage:
    """Processor time since some beginning, in seconds summed over cores. Only differences mean anything."""

    time_s: float
    own_s: float  # of this process and its descendants, such as those that load its data, living and finished
    all_s: float  # of all processes on this machine
    stolen_s: float  # ready to run, but the hypervisor gave the core to another machine


def usage() -> Usage:
    """Processor time until now. Where the system does not tell of stolen time it is 0."""
    times = psutil.cpu_times()
    everyone_s = sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))
    own = tree_usage()
    return Usage(own.time_s, own.cpu_s, everyone_s, getattr(times, "steal", 0.0))


def contention(start: Usage, end: Usage, what: str, cores: int | None = None) -> list[str]:
    """A warning when others used more than is tolerated of the cores between `start` and `end`, else none.

    Args:
        what: what was going on, "training" for example.
        cores: of the machine; None: as the system says.
    """
    duration_s = max(1e-9, end.time_s - start.time_s)
    others = max(0.0, (end.all_s - start.all_s) - (end.own_s - start.own_s)) / duration_s
    stolen = max(0.0, end.stolen_s - start.stolen_s) / duration_s
    if others + stolen <= max(TOLERATED_CORES, TOLERATED_SHARE * (cores or os.cpu_count() or 1)):
        return []
    return [
        f"{what}: the machine was shared: on average {others:.1f} cores ran other processes and {stolen:.1f} cores were "
        "stolen by other virtual machines; its seconds and joules are too high, run it again on a quiet machine"
    ]
