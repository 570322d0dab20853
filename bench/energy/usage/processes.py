"""CPU time and memory of this process and all its descendants, living and finished."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import psutil

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

LINUX = sys.platform == "linux" and os.path.exists(f"/proc/self/task/{os.getpid()}/children")
TICK_S = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

Key = tuple[int, int]
"""Process id and when it started, which name a process for good. This process itself started at 0."""


@dataclass(frozen=True)
class Usage:
    """Of the whole tree. Differences of `cpu_s` are CPU time spent, by whichever member and wherever it is by now."""

    time_s: float  # of time.perf_counter()
    cpu_s: float  # user + system of all members, and of those that have finished and were waited for
    resolution_s: float  # how coarse `cpu_s` is: one clock tick for each living descendant
    resident: Mapping[Key, int]  # RSS in bytes of each living member; see `memory` for pages that several of them share
    # CPU time that may be missing in `cpu_s`, at most, so far; 0 where everything that ended was waited for.
    unseen_s: float = 0.0


class UsageSource(Protocol):
    """Whose CPU time and memory a model turns into joules."""

    name: str  # "this process tree"

    def now(self) -> Usage:
        """Read anew."""

    def recent(self, max_age_s: float) -> Usage:
        """As of now, with amounts that may be up to `max_age_s` old."""

    def warnings(self) -> list[str]:
        """What of the CPU time may be missing, one sentence each."""


class OwnTree:
    """This process and its descendants: a program that measures itself."""

    name = "this process tree"

    def now(self) -> Usage:
        return tree_usage()

    def recent(self, max_age_s: float) -> Usage:
        return recent_tree_usage(max_age_s)

    def warnings(self) -> list[str]:
        if not _sigchld_ignored():
            return []
        return ["cpu: this process ignores SIGCHLD, the CPU time of its children that ended is only in the upper bound"]


_last: tuple[int, Usage] | None = None  # of which process: a forked child's tree is another


def tree_usage() -> Usage:
    """Usage of this process and its descendants now.

    A finished child is counted by the parent that waited for it. Not counted: a finished child that nobody waited for
    (SIGCHLD ignored; `unseen_s` then holds it), and a process that detached itself from the tree (double fork).
    """
    global _last
    for _ in range(3):
        finished_s = _finished_children_s()
        own_s, own_bytes = time.process_time(), own_resident_bytes()
        children = [usage for pid in descendants(os.getpid()) if (usage := process_usage(pid)) is not None]
        # A child that finished between the two reads is in neither or in both: read again.
        if _finished_children_s() == finished_s:
            break
    cpu_s = own_s + finished_s + sum(child.cpu_s for child in children)
    found = Usage(
        time_s=time.perf_counter(),
        cpu_s=cpu_s,
        resolution_s=TICK_S * len(children),
        resident={(os.getpid(), 0): own_bytes} | {child.key: child.resident_bytes for child in children},
        unseen_s=max(0.0, machine_busy_s() - cpu_s) if _sigchld_ignored() else 0.0,
    )
    _last = (os.getpid(), found)
    return found


def recent_tree_usage(max_age_s: float) -> Usage:
    """`tree_usage` as of now, whose amounts may be up to `max_age_s` old.

    Reading anew costs a tenth of a millisecond and more; sources that are read one after the other can share it.
    """
    now_s = time.perf_counter()
    if _last is None or _last[0] != os.getpid() or now_s - _last[1].time_s > max_age_s:
        return tree_usage()
    return replace(_last[1], time_s=now_s)


def tree_pids() -> set[int]:
    """Process ids of this process and its living descendants."""
    return {os.getpid(), *descendants(os.getpid())}


def machine_busy_s() -> float:
    """CPU time in s that all processes of the machine have used since it started: a bound for what nobody accounts."""
    times = psutil.cpu_times()
    return sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))


def _sigchld_ignored() -> bool:
    return hasattr(signal, "SIGCHLD") and signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN


def _finished_children_s() -> float:
    if resource is None:
        return 0.0
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def own_resident_bytes() -> int:
    if not LINUX:
        return psutil.Process().memory_info().rss
    return int(content("/proc/self/statm").split()[1]) * PAGE_BYTES


def descendants(root: int) -> list[int]:
    """All living descendants. On Linux by following the kernel's lists of children, which costs microseconds;
    psutil reads every process of the machine."""
    if not LINUX:
        return [p.pid for p in psutil.Process(root).children(recursive=True)]
    found: list[int] = []
    waiting = [root]
    while waiting:
        folder = f"/proc/{waiting.pop()}/task"
        try:
            threads = os.listdir(folder)
        except OSError:  # gone by now
            continue
        for thread in threads:
            try:
                children = [int(pid) for pid in content(f"{folder}/{thread}/children").split()]
            except OSError:
                continue
            found += children
            waiting += children
    return found


class ProcessUsage(NamedTuple):
    """Of one process, all its threads together."""

    pid: int
    parent: int
    started: int  # clock ticks after the machine; with the pid it names the process for good
    own_s: float  # user + system
    children_s: float  # of its finished children that it waited for, and of theirs
    resident_bytes: int

    @property
    def key(self) -> Key:
        return self.pid, self.started

    @property
    def cpu_s(self) -> float:
        return self.own_s + self.children_s


def process_usage(pid: int) -> ProcessUsage | None:
    """None when the process is gone."""
    if not LINUX:
        try:
            process = psutil.Process(pid)
            times = process.cpu_times()
            own_s, children_s = sum(times[:2]), sum(times[2:4])
            parent, started = process.ppid(), int(process.create_time() / TICK_S)
            return ProcessUsage(pid, parent, started, own_s, children_s, process.memory_info().rss)
        except psutil.Error:
            return None
    try:
        # The name, second and in brackets, may hold anything; fields from the third on follow its last bracket.
        fields = content(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except OSError:
        return None
    utime, stime, cutime, cstime = (int(field) * TICK_S for field in fields[11:15])
    return ProcessUsage(
        pid, int(fields[1]), int(fields[19]), utime + stime, cutime + cstime, int(fields[21]) * PAGE_BYTES
    )


def content(path: str) -> bytes:
    """A file of the kernel's, without the buffers of `open`, which cost as much again."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = [os.read(file, 65536)]
        while parts[-1]:
            parts.append(os.read(file, 65536))
        return b"".join(parts)
    finally:
        os.close(file)
