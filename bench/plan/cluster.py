"""What a suite takes on machines that are not here: node-hours, joules, CO2 and time, by assumption.

Everything is modelled: nothing of it was timed or measured on the machines that it speaks of.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from greenprune.bench.errors import UserError
from greenprune.bench.plan.figures import Bounded
from greenprune.bench.text import duration, plural

STARTUP_S = 60.0
"""Of a job: a process on another machine, imports and the data over a shared file system."""


@dataclass(frozen=True)
class Site:
    """What an engine is given to work with, as far as a plan needs it.

    Attributes:
        name: of the engine.
        at_once: runs at a time; None: all.
        gpus: of a run, on all of its nodes; 0: it trains on the processor.
        cores: of a run on each of its nodes; None: a whole one.
        spread: nodes that a run trains on together.
        node_gpus, node_cores: of a node, which several runs share.
        limit_s: after which a job is ended, and queued again with its checkpoint; None: never.
        requeue_s: until it goes on.
    """

    name: str
    at_once: int | None = None
    gpus: int = 1
    cores: int | None = None
    spread: int = 1
    node_gpus: int = 8
    node_cores: int = 1
    limit_s: float | None = None
    requeue_s: float = 0.0

    @property
    def nodes(self) -> float:
        """That a run keeps busy, or the part of one."""
        if self.gpus:
            return self.gpus / self.node_gpus
        return self.spread * (1.0 if self.cores is None else self.cores / self.node_cores)


@dataclass(frozen=True)
class Load:
    """Runs of one kind: how long each is at work, and what it draws meanwhile."""

    runs: int
    run_s: Bounded
    power_w: Bounded


@dataclass(frozen=True)
class Total:
    """Of a suite.

    Attributes:
        wall_s: from the first job's start to the last one's end.
        busy_s: of all runs together.
        node_s: of the nodes that they keep busy.
        jobs: how often one starts, requeued ones included, at the middle of the assumptions.
    """

    wall_s: Bounded
    busy_s: Bounded
    node_s: Bounded
    energy_j: Bounded
    jobs: int


def pieces(run_s: float, site: Site) -> int:
    """Jobs that a run takes one after the other.

    Raises:
        UserError: none of them would get any further.
    """
    if site.limit_s is None:
        return 1
    if site.limit_s <= 2 * STARTUP_S:
        raise UserError(
            f"engine {site.name}: a time limit of {duration(site.limit_s)} leaves no time to train: a job takes about "
            f"{duration(STARTUP_S)} to start; allowed: more than {duration(2 * STARTUP_S)}"
        )
    return max(1, math.ceil(run_s / (site.limit_s - STARTUP_S)))


def makespan_s(durations_s: Sequence[float], at_once: int | None) -> float:
    """Until all are done: each begins when one of the places is free, in their order."""
    if not durations_s:
        return 0.0
    ends_s = [0.0] * min(len(durations_s), at_once or len(durations_s))
    for each_s in durations_s:
        heapq.heappush(ends_s, heapq.heappop(ends_s) + each_s)
    return max(ends_s)


def total(loads: Sequence[Load], site: Site, measuring: Load | None = None) -> Total:
    """What all runs take together.

    Args:
        measuring: the last job, in which all networks are measured side by side, alone on a node.

    Raises:
        UserError: the site's time limit is too short for any run.
    """

    def of(pick: Callable[[Bounded], float]) -> tuple[float, float, float, float, int]:
        walls_s, busy_s, energy_j, jobs = [], 0.0, 0.0, 0
        for load in loads:
            count = pieces(pick(load.run_s), site)
            each_s = pick(load.run_s) + count * STARTUP_S
            walls_s += [each_s + (count - 1) * site.requeue_s] * load.runs
            busy_s += each_s * load.runs
            energy_j += each_s * load.runs * pick(load.power_w)
            jobs += count * load.runs
        node_s, last_s = busy_s * site.nodes, 0.0
        if measuring is not None and measuring.runs:
            last_s = pick(measuring.run_s) + STARTUP_S
            busy_s, node_s, jobs = busy_s + last_s, node_s + last_s, jobs + 1
            energy_j += last_s * pick(measuring.power_w)
        return makespan_s(walls_s, site.at_once) + last_s, busy_s, node_s, energy_j, jobs

    middle, low, high = (of(pick) for pick in (lambda b: b.value, lambda b: b.low, lambda b: b.high))
    wall, busy, node, energy = (Bounded(middle[i], low[i], high[i]) for i in range(4))
    return Total(wall, busy, node, energy, middle[4])


def sentences(found: Total, site: Site, runs: int, energy: str) -> list[str]:
    """The figures in words, a line each.

    Args:
        energy: joules and CO2 in words.
    """
    hours = found.busy_s.times(1 / 3600)
    each = f"{plural(site.gpus, 'GPU')} each" if site.gpus else "on processors"
    together = "all at the same time" if site.at_once is None else f"{site.at_once} at a time"
    busy = f"{hours.times(site.gpus).text()} GPU-hours, " if site.gpus else ""
    of = f"{plural(runs, 'run')}, {each}, {together}, in {plural(found.jobs, 'job')}"
    return [
        f"{site.name}, by assumption and not measured: {of}: "
        f"{duration(found.wall_s.value)} ({duration(found.wall_s.low)} to {duration(found.wall_s.high)}) from the first job's "
        f"start to the last one's end, {busy}{found.node_s.times(1 / 3600).text()} node-hours",
        energy,
    ]
