"""Whether a worker still does something, and within its limits."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import psutil
from greenprune.bench.suite.recipe import Running

BUSY_CORES = 0.01
"""A worker that uses less of a core than this, and tells nothing, does nothing."""

HANGS = "no sign of life for {minutes:g} min: no step, and no processor time (run.heartbeat_minutes)"
TOO_LONG = "not finished after {minutes:g} min (run.timeout_minutes); start it again to go on from its last checkpoint"


class Watch:
    """Whether a worker is to be given up.

    It shows that it is alive by what it tells. A training tells something every few seconds while it takes steps, so that
    nothing else counts there; at other times (while it loads, traces, evaluates or measures) it may also be busy.
    """

    def __init__(self, pid: int, limits: Running) -> None:
        self._pid, self._limits = pid, limits
        self._started_s = self._alive_s = self._looked_s = time.monotonic()
        self._busy_s = 0.0
        self._training = False
        self.why: str | None = None

    def heard(self, told: dict[str, Any]) -> None:
        self._alive_s = time.monotonic()
        self._training = told["event"] == "progress"

    def why_end(self) -> str | None:
        """A sentence, or None."""
        now_s = time.monotonic()
        limits = self._limits
        if limits.timeout_minutes is not None and now_s - self._started_s > 60 * limits.timeout_minutes:
            self.why = TOO_LONG.format(minutes=limits.timeout_minutes)
        elif now_s - self._alive_s > 60 * limits.heartbeat_minutes:
            self.why = HANGS.format(minutes=limits.heartbeat_minutes)
        elif not self._training and now_s - self._looked_s > 6 * limits.heartbeat_minutes:  # ten times meanwhile
            busy_s = processor_s(self._pid)
            if busy_s - self._busy_s > BUSY_CORES * (now_s - self._looked_s):
                self._alive_s = now_s
            self._busy_s, self._looked_s = busy_s, now_s
        return self.why


def processor_s(pid: int) -> float:
    """Seconds of processor time of a process and those that it started."""
    total_s = 0.0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total_s += sum(each.cpu_times()[:4])
    return total_s
