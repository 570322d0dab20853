"""Memory that several processes hold together: a page that several of them share counts once.

A forked process has all pages of its parent, and a page becomes its own only when one of the two writes to it: resident
memory (RSS) counts it for each of them until then. The kernel tells each process's part of what is shared too (Pss, in
/proc/PID/smaps_rollup), and those parts add up. To find it, the kernel walks over all pages, which takes 4 ms per GB; RSS
costs microseconds. So the parts are looked up seldom, and in between they follow RSS.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import NamedTuple

import psutil
from greenprune.bench.energy.usage.processes import Key, content

EVERY_S = 5.0
LOOK_SHARE = 0.0002  # of a core that looking up may take


class Memory(NamedTuple):
    """Bytes that some processes hold together, with bounds."""

    held: float
    low: float
    high: float


class Parts:
    """Each process's part of the memory that it shares, as it was when it was last looked up."""

    def __init__(self) -> None:
        self._parts: dict[Key, tuple[int, int]] = {}  # RSS and Pss
        self._asked: frozenset[Key] = frozenset()  # also those that cannot be read
        self._looked_s = self._next_s = -math.inf

    def __bool__(self) -> bool:
        """Whether anything was looked up."""
        return bool(self._asked)

    def look(self, resident: Mapping[Key, int]) -> None:
        """Look up the parts, where they are old, or of other processes than these, and it does not cost too much.

        `resident`: RSS in bytes.
        """
        now_s = time.perf_counter()
        if now_s < self._next_s or (self._asked == resident.keys() and now_s - self._looked_s < EVERY_S):
            return
        begun_s = time.thread_time()
        found = {key: (rss, part) for key, rss in resident.items() if (part := _part_bytes(key[0])) is not None}
        self._parts, self._asked = found, frozenset(resident)
        self._looked_s, self._next_s = now_s, now_s + (time.thread_time() - begun_s) / LOOK_SHARE

    def of(self, resident: Mapping[Key, int]) -> Memory:
        """What processes with these RSS in bytes hold.

        Where the parts are those of exactly these processes, their sum. Else the estimate takes processes that were not
        looked up to share as much as those that were, and the bounds are the largest of them (which shares everything) and
        all of them (which share nothing, in the memory that the machine has given out).
        """
        told = sum(_since(rss, *self._parts[key]) for key, rss in resident.items() if key in self._parts)
        if self._parts.keys() == resident.keys():
            return Memory(told, told, told)
        total, largest = sum(resident.values()), max(resident.values(), default=0)
        if total == largest:
            return Memory(total, total, total)
        looked_up = sum(rss for rss, _ in self._parts.values())
        own = sum(part for _, part in self._parts.values()) / looked_up if looked_up else 1.0
        guess = told + own * sum(rss for key, rss in resident.items() if key not in self._parts)
        used, given = _machine_bytes()
        low = max(largest, told)
        held = max(low, min(guess, total, used))
        return Memory(held, low, max(held, min(total, given)))


def _since(rss: int, rss_then: int, part: int) -> float:
    """A process's part now: what came since is its own; what went was shared as the rest is."""
    return part + rss - rss_then if rss >= rss_then else part * rss / rss_then


def _part_bytes(pid: int) -> int | None:
    """None where it is not told: no Linux, another user's process, one that is gone."""
    try:
        lines = content(f"/proc/{pid}/smaps_rollup").split(b"\n")
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Pss:")), None)


def _machine_bytes() -> tuple[int, int]:
    """What the machine uses, and what it has given out, also for files that it could drop."""
    memory = psutil.virtual_memory()
    return memory.total - memory.available, memory.total - memory.free
