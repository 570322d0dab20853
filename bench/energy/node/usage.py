"""CPU time and memory of all processes that a launcher started on this node, for the one that reports for them.

Launchers such as torchrun and mpirun start ranks side by side: none is a descendant of another. They have an ancestor in
common, and in their environment the variable that tells their rank, which what they start inherits.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace

from greenprune.bench.energy.node.ranks import local_rank
from greenprune.bench.energy.usage.processes import TICK_S, OwnTree, Usage, content, descendants, process_usage

SEARCH_EVERY_S = 5.0
MOST_ANCESTORS = 4  # a launcher, its agent on the node, a shell, a wrapper


class NodeRanks:
    """This process's tree and those of the other ranks beside it."""

    name = "the process trees of this node's ranks"

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        here = local_rank(environ)
        variable = None if here is None else here.origin.partition(",")[0]
        self._variable = None if variable is None else variable.encode() + b"="
        self._value = b"" if variable is None else os.fsencode(environ[variable])
        self._own = OwnTree()
        self._lock = threading.Lock()
        self._is_rank: dict[tuple[int, int], bool] = {}  # by process id and when it started
        self._others_s: dict[tuple[int, int], float] = {}  # CPU time, also of those that have ended since
        self._last: Usage | None = None
        self._ancestor: int | None = None
        self._search_at_s = 0.0

    def now(self) -> Usage:
        """Of a rank that has ended, what was seen of it last counts."""
        with self._lock:
            own = self._own.now()
            found = 0
            resident = dict(own.resident)
            for pid in self._others():
                usage = process_usage(pid)
                if usage is None:
                    continue
                key = usage.key
                if key not in self._is_rank:
                    self._is_rank[key] = self._value_of(pid) is not None
                if self._is_rank[key]:
                    found += 1
                    self._others_s[key] = usage.own_s
                    resident[key] = usage.resident_bytes
            self._last = replace(
                own,
                cpu_s=own.cpu_s + sum(self._others_s.values()),
                resolution_s=own.resolution_s + TICK_S * found,
                resident=resident,
            )
            return self._last

    def recent(self, max_age_s: float) -> Usage:
        now_s = time.perf_counter()
        last = self._last
        if last is None or now_s - last.time_s > max_age_s:
            return self.now()
        return replace(last, time_s=now_s)

    def warnings(self) -> list[str]:
        return self._own.warnings()

    def _others(self) -> set[int]:
        """Below the ancestor, without this process's own tree."""
        own = {os.getpid(), *descendants(os.getpid())}
        if self._ancestor is None and self._variable is not None and time.monotonic() >= self._search_at_s:
            self._search_at_s = time.monotonic() + SEARCH_EVERY_S  # others may start later
            self._ancestor = self._found_ancestor(own)
        return set() if self._ancestor is None else set(descendants(self._ancestor)) - own

    def _found_ancestor(self, own: set[int]) -> int | None:
        """The nearest that has another rank below it.

        A helper of this rank that its wrapper started, as in `python train.py | tee log`, tells this rank's own number.
        """
        ancestor = os.getppid()
        for _ in range(MOST_ANCESTORS):
            if ancestor <= 1:
                return None
            if any(self._value_of(pid) not in (None, self._value) for pid in set(descendants(ancestor)) - own):
                return ancestor
            parent = process_usage(ancestor)
            if parent is None:
                return None
            ancestor = parent.parent
        return None

    def _value_of(self, pid: int) -> bytes | None:
        """Of the variable that tells the rank, in the environment of a process; None where it has none."""
        if self._variable is None:
            return None
        try:
            entries = content(f"/proc/{pid}/environ").split(b"\0")
        except OSError:  # gone, or somebody else's
            return None
        return next((entry.removeprefix(self._variable) for entry in entries if entry.startswith(self._variable)), None)
