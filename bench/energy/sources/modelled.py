"""Energy of CPU and memory where there is no sensor: what this process tree used, times watts.

CPU. Energy = CPU time of the processes x watts per busy core (`processors`). It follows the work alone: unlike an
estimate from the load of the machine, it is the same whatever else runs.

Memory. Energy = resident memory of the tree, in which shared pages count once (`memory`), x 0.375 W per GB, bounds 0.1 and
0.6. 0.375 is 3 W for a module of 8 GB, long CodeCarbon's figure; idle modules of a server that hold 64 GB draw about 0.1 W per
GB, small busy ones 0.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from greenprune.bench.energy.reading import Kind, SourceReading
from greenprune.bench.energy.source import Mark, Segment, edge_error_s, invalid
from greenprune.bench.energy.usage.memory import Memory, Parts
from greenprune.bench.energy.usage.processes import OwnTree, Usage, UsageSource
from greenprune.bench.energy.usage.processors import CorePower

RAM_W_PER_GB, RAM_LOW_W_PER_GB, RAM_HIGH_W_PER_GB = 0.375, 0.1, 0.6
SHARED_S = 0.005  # memory may be as old as that: what the CPU's source has just read serves both


class CpuSource:
    """CPU time of processes x watts per busy core."""

    name = "cpu"
    kind: Kind = "modelled"
    poll_interval_s = 1.0  # for the power log alone: the kernel adds up

    def __init__(self, power: CorePower, usage: UsageSource | None = None) -> None:
        """`usage`: of which processes; of this one and its descendants if None."""
        self._power = power
        self._usage = usage or OwnTree()

    def poll(self) -> None:
        """Nothing: the kernel adds up."""

    def mark(self) -> Mark:
        usage = self._usage.now()
        power_w = self._power.power_w
        return Mark(usage.time_s, usage.cpu_s * power_w, stale_s=usage.resolution_s, unseen_j=usage.unseen_s * power_w)

    def reading(self, segments: Sequence[Segment]) -> tuple[SourceReading, list[str]]:
        power = self._power
        cpu_s = sum(s.energy_j for s in segments) / power.power_w
        over_s, under_s = edge_error_s(segments)
        if cpu_s < -over_s:
            return invalid(self.name, self.kind, "a child process left the tree without being waited for"), []
        cpu_s = max(0.0, cpu_s)
        unseen_s = sum(max(0.0, s.unseen_j) for s in segments) / power.power_w
        return SourceReading(
            name=self.name,
            kind=self.kind,
            energy_j=cpu_s * power.power_w,
            low_j=max(0.0, cpu_s - over_s) * power.low_w,
            high_j=(cpu_s + under_s + unseen_s) * power.high_w,
            note=f"{cpu_s:.3f} s of CPU time x {_per_core(power)}",
        ), self._usage.warnings()

    def rescued(self, segments: Sequence[Segment], reason: str) -> None:
        return None

    def last_sample(self) -> None:
        return None

    def expected_uncertainty(self, window_s: float) -> float | None:
        """The range of the model; the length of the window does not matter."""
        power = self._power
        return max(power.high_w - power.power_w, power.power_w - power.low_w) / power.power_w

    def describe(self) -> dict[str, Any]:
        return {
            "source": self.name,
            "kind": self.kind,
            "available": True,
            "detail": f"CPU time of {self._usage.name} x {_per_core(self._power)}",
            "reason": None,
            "remedy": None,
        }

    def restart(self) -> None:
        """Nothing: the marks of a child are its own."""

    def close(self) -> None:
        pass


class RamSource:
    """Resident memory of processes x watts per GB, sampled: each sample holds until the next."""

    name = "ram"
    kind: Kind = "modelled"
    poll_interval_s = 1.0

    def __init__(self, usage: UsageSource | None = None) -> None:
        """`usage`: of which processes; of this one and its descendants if None."""
        self._usage = usage or OwnTree()
        self._parts = Parts()
        self._last: tuple[float, Memory] | None = None  # time in s
        self._total_j = self._less_j = self._more_j = 0.0

    def poll(self) -> None:
        usage = self._usage.recent(SHARED_S)
        self._parts.look(usage.resident)
        self._mark(usage)

    def mark(self) -> Mark:
        usage = self._usage.recent(SHARED_S)
        if not self._parts:  # else it is for `poll`: the edge of a window is read at once
            self._parts.look(usage.resident)
        return self._mark(usage)

    def _mark(self, usage: Usage) -> Mark:
        if self._last is not None:
            last_s, memory = self._last
            j_per_byte = max(0.0, usage.time_s - last_s) * RAM_W_PER_GB / 1e9
            self._total_j += memory.held * j_per_byte
            self._less_j += (memory.held - memory.low) * j_per_byte
            self._more_j += (memory.high - memory.held) * j_per_byte
        self._last = usage.time_s, self._parts.of(usage.resident)
        return Mark(usage.time_s, self._total_j, less_j=self._less_j, more_j=self._more_j)

    def reading(self, segments: Sequence[Segment]) -> tuple[SourceReading, list[str]]:
        energy_j = sum(s.energy_j for s in segments)
        duration_s = sum(s.duration_s for s in segments)
        low_j = energy_j - sum(s.less_j for s in segments)
        high_j = energy_j + sum(s.more_j for s in segments)
        gb, low_gb, high_gb = (
            joules / RAM_W_PER_GB / duration_s if duration_s else 0.0 for joules in (energy_j, low_j, high_j)
        )
        between = f" ({low_gb:.2f} to {high_gb:.2f})" if f"{low_gb:.2f}" != f"{high_gb:.2f}" else ""
        return SourceReading(
            name=self.name,
            kind=self.kind,
            energy_j=energy_j,
            low_j=low_j * RAM_LOW_W_PER_GB / RAM_W_PER_GB,
            high_j=high_j * RAM_HIGH_W_PER_GB / RAM_W_PER_GB,
            note=f"{gb:.2f} GB{between} resident x {RAM_W_PER_GB} W per GB ({RAM_LOW_W_PER_GB} to {RAM_HIGH_W_PER_GB})",
        ), []

    def rescued(self, segments: Sequence[Segment], reason: str) -> None:
        return None

    def last_sample(self) -> None:
        return None

    def expected_uncertainty(self, window_s: float) -> float | None:
        """The range of the model; the length of the window does not matter."""
        return max(RAM_HIGH_W_PER_GB - RAM_W_PER_GB, RAM_W_PER_GB - RAM_LOW_W_PER_GB) / RAM_W_PER_GB

    def describe(self) -> dict[str, Any]:
        return {
            "source": self.name,
            "kind": self.kind,
            "available": True,
            "detail": f"resident memory of {self._usage.name} x {RAM_W_PER_GB} W per GB",
            "reason": None,
            "remedy": None,
        }

    def restart(self) -> None:
        self._last, self._parts = None, Parts()

    def close(self) -> None:
        pass


def _per_core(power: CorePower) -> str:
    return f"{power.power_w:.1f} W per busy core ({power.low_w:.1f} to {power.high_w:.1f}), {power.origin}"
