"""CPU time and memory of this process and all its descendants, living and finished."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, replace

import psutil

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_LINUX = sys.platform == "linux" and os.path.exists(f"/proc/self/task/{os.getpid()}/children")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@dataclass(frozen=True)
class Usage:
    """Of the whole tree. Differences of `cpu_s` are CPU time spent, by whichever member and wherever it is by now."""

    time_s: float  # of time.perf_counter()
    cpu_s: float  # user + system of all members, and of those that have finished and were waited for
    resolution_s: float  # how coarse `cpu_s` is: one clock tick for each living descendant
    resident_bytes: int  # pages that several members share count for each


_last: tuple[int, Usage] | None = None  # of which process: a forked child's tree is another


def tree_usage() -> Usage:
    """Usage of this process and its descendants now.

    A finished child is counted by the parent that waited for it. Not counted: a finished child that nobody waited for
    (SIGCHLD ignored), and a process that detached itself from the tree (double fork).
    """
    global _last
    for _ in range(3):
        finished_s = _finished_children_s()
        own_s, own_bytes = time.process_time(), _own_resident_bytes()
        children = [usage for pid in _descendants(os.getpid()) if (usage := _process_usage(pid)) is not None]
        # A child that finished between the two reads is in neither or in both: read again.
        if _finished_children_s() == finished_s:
            break
    found = Usage(
        time_s=time.perf_counter(),
        cpu_s=own_s + finished_s + sum(cpu_s for cpu_s, _ in children),
        resolution_s=_TICK_S * len(children),
        resident_bytes=own_bytes + sum(resident for _, resident in children),
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
    return {os.getpid(), *_descendants(os.getpid())}


def _finished_children_s() -> float:
    if resource is None:
        return 0.0
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _own_resident_bytes() -> int:
    if not _LINUX:
        return psutil.Process().memory_info().rss
    return int(_content("/proc/self/statm").split()[1]) * _PAGE_BYTES


def _descendants(root: int) -> list[int]:
    """All living descendants. On Linux by following the kernel's lists of children, which costs microseconds;
    psutil reads every process of the machine."""
    if not _LINUX:
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
                children = [int(pid) for pid in _content(f"{folder}/{thread}/children").split()]
            except OSError:
                continue
            found += children
            waiting += children
    return found


def _process_usage(pid: int) -> tuple[float, int] | None:
    """CPU time in s (its own and its finished children's) and resident bytes; None when it is gone."""
    if not _LINUX:
        try:
            process = psutil.Process(pid)
            return sum(process.cpu_times()[:4]), process.memory_info().rss
        except psutil.Error:
            return None
    try:
        # The name, second and in brackets, may hold anything; fields from the third on follow its last bracket.
        fields = _content(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except OSError:
        return None
    ticks = sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
    return ticks * _TICK_S, int(fields[21]) * _PAGE_BYTES


def _content(path: str) -> bytes:
    """A file of the kernel's, without the buffers of `open`, which cost as much again."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = [os.read(file, 65536)]
        while parts[-1]:
            parts.append(os.read(file, 65536))
        return b"".join(parts)
    finally:
        os.close(file)
