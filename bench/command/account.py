"""What a command uses: CPU time and memory of its processes, without the meter's own.

Three ways to count CPU time, the best that the machine allows: a control group of its own, an inherited performance
event, or frequent looks at the process tree. The first two miss nothing. The third misses processes that are born and
end between two looks without being waited for; where that may have happened, the upper bound takes all CPU time that the
machine spent. The tree is read beside the first two as well, and the larger figure counts.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from greenprune.bench.command import cgroup
from greenprune.bench.command.task_clock import TaskClock
from greenprune.bench.command.tree import lost_s
from greenprune.bench.energy.usage.processes import (
    TICK_S,
    Key,
    ProcessUsage,
    Usage,
    content,
    descendants,
    machine_busy_s,
    own_resident_bytes,
    process_usage,
)

LOOK_SHARE = 0.003  # of a core that looks may take
SHORTEST_LOOK_S, LONGEST_LOOK_S = 0.02, 1.0
_SIGCHLD_BIT = 1 << 16  # of the mask in /proc/PID/status, signal 17
WAYS = ("cgroup", "task-clock", "tree")


class Counter(Protocol):
    def cpu_s(self) -> float: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class OwnCost:
    """What the meter itself took; it is in no figure of a model."""

    cpu_s: float
    resident_bytes: int


class CommandUsage:
    """Usage of everything below this process but `left_out`. May be read from any thread."""

    name = "the command's processes"

    def __init__(
        self,
        pid: int,
        left_out: set[int],
        reaped_s: Callable[[], float],
        ways: tuple[str, ...] = WAYS,
        own_from_s: float | None = None,
    ) -> None:
        """`pid`: the command's, before it has started. `reaped_s`: CPU time of all children waited for so far.

        `ways`: the ways to count that may be used, the best first. `own_from_s`: from which CPU time of this process on
        its own cost counts, by default from the present.
        """
        self._lock = threading.RLock()
        self._left_out = left_out | {pid for pid in _children() if pid not in left_out} - {pid}
        self._reaped_s = reaped_s
        self._counter, self.way = _counter(pid, ways)
        self._members: dict[Key, ProcessUsage] = {}
        self._reaped_before_s = reaped_s()
        self._lost_s = 0.0
        self._neglectful = False  # somebody does not wait for children
        self._busy_start_s = machine_busy_s()
        self._own_start_s = time.process_time()
        self._own_from_s = self._own_start_s if own_from_s is None else own_from_s
        self._most_s = 0.0
        self._look_took_s = 0.0
        self._last: Usage | None = None
        self.now()
        self._base_s = self._most_s  # what starting took before there was a command
        self._most_s = 0.0

    @property
    def look_every_s(self) -> float | None:
        """How often `now` has to be called for nothing to slip through; None where the kernel counts."""
        if self.way != "tree":
            return None
        return min(max(self._look_took_s / LOOK_SHARE, SHORTEST_LOOK_S), LONGEST_LOOK_S)

    def now(self) -> Usage:
        with self._lock:
            begun_s = time.thread_time()
            self._look()
            tree_s = sum(member.cpu_s for member in self._members.values()) + self._reaped_before_s + self._lost_s
            counted_s = 0.0
            if self._counter is not None:
                with contextlib.suppress(OSError):
                    counted_s = self._counter.cpu_s()
            self._most_s = max(self._most_s, tree_s - getattr(self, "_base_s", 0.0), counted_s)
            unseen_s = 0.0
            if self.way == "tree" and (self._neglectful or self._lost_s):
                own_s = time.process_time() - self._own_start_s
                unseen_s = max(0.0, machine_busy_s() - self._busy_start_s - own_s - self._most_s)
            self._last = Usage(
                time_s=time.perf_counter(),
                cpu_s=self._most_s,
                resolution_s=TICK_S * len(self._members),
                resident={key: member.resident_bytes for key, member in self._members.items()},
                unseen_s=unseen_s,
            )
            self._look_took_s = time.thread_time() - begun_s
            return self._last

    def recent(self, max_age_s: float) -> Usage:
        with self._lock:
            now_s = time.perf_counter()
            if self._last is None or now_s - self._last.time_s > max_age_s:
                return self.now()
            return replace(self._last, time_s=now_s)

    def living(self) -> list[tuple[int, str]]:
        """Process id and name of what runs at present, zombies left out."""
        return [(pid, name) for pid in sorted(self._pids()) if (name := _name_of_living(pid)) is not None]

    def own_cost(self) -> OwnCost:
        """Of this process."""
        return OwnCost(time.process_time() - self._own_from_s, own_resident_bytes())

    def warnings(self) -> list[str]:
        if self.way != "tree" or not (self._neglectful or self._lost_s):
            return []
        return [
            f"cpu: a process ignores SIGCHLD, so that nobody waits for its children: {self._lost_s:.2f} s of their CPU "
            "time were seen before they ended and count; what was not seen is only in the upper bound, which takes the "
            "CPU time of the whole machine. A cgroup of its own would count it: systemd-run --user --scope, then this"
        ]

    def close(self) -> None:
        if self._counter is not None:
            self._counter.close()

    def _pids(self) -> set[int]:
        below: set[int] = set()
        for child in _children():
            if child not in self._left_out:
                below |= {child, *descendants(child)}
        if isinstance(self._counter, cgroup.Group):
            below |= self._counter.pids()
        return below

    def _look(self) -> None:
        reaped_s = self._reaped_s()
        for _ in range(3):
            found = [usage for pid in self._pids() if (usage := process_usage(pid)) is not None]
            # A child that was waited for between the reads is in neither or in both: read again.
            if (again_s := self._reaped_s()) == reaped_s:
                break
            reaped_s = again_s
        members = {member.key: member for member in found}
        if self.way == "tree":
            self._lost_s += lost_s(self._members, members, os.getpid(), self._reaped_before_s, reaped_s)
            if not self._neglectful:
                self._neglectful = any(_ignores_sigchld(member.pid) for member in found)
        self._members, self._reaped_before_s = members, reaped_s


def _counter(pid: int, ways: tuple[str, ...]) -> tuple[Counter | None, str]:
    if "cgroup" in ways and (group := cgroup.make()) is not None:
        try:
            group.add(pid)
        except OSError:
            group.close()
        else:
            return group, "cgroup"
    if "task-clock" in ways:
        with contextlib.suppress(OSError):
            return TaskClock(pid), "task-clock"
    return None, "tree"


def _children() -> set[int]:
    """Children of this process, of whichever of its threads."""
    found: set[int] = set()
    try:
        for thread in os.listdir("/proc/self/task"):
            found |= {int(pid) for pid in content(f"/proc/self/task/{thread}/children").split()}
    except OSError:  # no Linux
        import psutil

        found = {child.pid for child in psutil.Process().children()}
    return found


def _ignores_sigchld(pid: int) -> bool:
    try:
        for line in content(f"/proc/{pid}/status").splitlines():
            if line.startswith(b"SigIgn:"):
                return bool(int(line.split()[1], 16) & _SIGCHLD_BIT)
    except OSError:
        pass
    return False


def _name_of_living(pid: int) -> str | None:
    try:
        stat = content(f"/proc/{pid}/stat").decode(errors="replace")
    except OSError:
        return None
    name, _, rest = stat.partition("(")[2].rpartition(")")
    return None if rest.split()[0] in "ZX" else name
