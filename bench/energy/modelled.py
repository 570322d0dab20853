"""Energy of CPU and memory where there is no sensor: what this process tree used, times watts.

CPU. Energy = CPU time of the tree x watts per busy core. It follows the work alone: unlike an estimate from the load of
the machine, it is the same whatever else runs. Watts per busy core are the processor's TDP, from CodeCarbon's table, by
its number of cores: what a core draws, with its share of caches and memory controllers, when all are busy at the base
clock. The bounds are a factor of two either way: below it lie integer work and two threads that share one core, above
it a few cores at the turbo clock that carry the rest of the package alone.

Where the processor is not in the table, or the machine is virtual (it then shows some cores of a larger chip, and
TDP by cores would be far off), 6 W with bounds of 2 and 15 W. Server chips lie between
360 W / 96 cores = 3.8 W (EPYC 9654) and 270 W / 40 = 6.8 W (Xeon 8380), desktop chips near 125 W / 8 = 16 W, laptops at
28 W / 8 = 3.5 W and below; a virtual core is often half a core.

Memory. Energy = resident memory of the tree x 0.375 W per GB, bounds 0.1 and 0.6. 0.375 is 3 W for a module of 8 GB,
long CodeCarbon's figure; idle modules of a server that hold 64 GB draw about 0.1 W per GB, small busy ones 0.6.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
from greenprune.bench.energy.processes import recent_tree_usage, tree_usage
from greenprune.bench.energy.reading import Kind, SourceReading
from greenprune.bench.energy.source import Mark, Segment, edge_error_s, invalid
from greenprune.bench.energy.trace import PowerTrace

DEFAULT_CORE_W, DEFAULT_CORE_LOW_W, DEFAULT_CORE_HIGH_W = 6.0, 2.0, 15.0
TDP_FACTOR = 2.0
RAM_W_PER_GB, RAM_LOW_W_PER_GB, RAM_HIGH_W_PER_GB = 0.375, 0.1, 0.6
SHARED_S = 0.005  # memory may be as old as that: what the CPU's source has just read serves both

_FILLER = {"cpu", "processor", "with", "radeon", "graphics", "vega", "core"}


@dataclass(frozen=True)
class CorePower:
    """Watts of one busy core, with bounds, and where they come from."""

    power_w: float
    low_w: float
    high_w: float
    origin: str


def core_power(model: str, cores: int, *, virtual: bool, table: Iterable[tuple[str, float]]) -> CorePower:
    """Watts per busy core of a processor with `cores` physical cores over all its sockets.

    `table`: names of processors and their TDP in W.
    """
    default = (DEFAULT_CORE_W, DEFAULT_CORE_LOW_W, DEFAULT_CORE_HIGH_W)
    if virtual:
        return CorePower(*default, f"a default: {model or 'the processor'} shows a virtual machine only part of itself")
    tdp_w = find_tdp_w(model, table)
    if tdp_w is None or cores < 1:
        return CorePower(*default, f"a default: {model or 'the processor'} is not in CodeCarbon's table")
    power_w = tdp_w / cores
    origin = f"CodeCarbon's TDP table: {model}, {tdp_w:.0f} W over {cores} cores"
    return CorePower(power_w, power_w / TDP_FACTOR, power_w * TDP_FACTOR, origin)


def find_tdp_w(model: str, table: Iterable[tuple[str, float]]) -> float | None:
    """TDP of the processor whose name has the same words as `model`; None when none has, or when they disagree."""
    wanted = _words(model)
    found = {tdp_w for name, tdp_w in table if _words(name) == wanted}
    return found.pop() if wanted and len(found) == 1 else None


def _words(model: str) -> frozenset[str]:
    """`Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz` and `Intel Core i7-8700K` have the same words."""
    bare = re.sub(r"\((?:r|tm)\)|@.*|\b\w+-core\b", " ", model.lower())
    return frozenset(bare.split()) - _FILLER


def codecarbon_tdp_table() -> list[tuple[str, float]]:
    """CodeCarbon's list of processors with their TDP in W; takes about a second the first time.

    Entries without a believable number are left out (version 3.3.2 has one of "27.29.5").
    """
    from codecarbon.input import DataSource

    data = DataSource().get_cpu_power_data()
    table = []
    for name, tdp in zip(data["Name"], data["TDP"], strict=True):
        with contextlib.suppress(ValueError):
            table.append((str(name), float(tdp)))
    return [(name, tdp_w) for name, tdp_w in table if 0 < tdp_w <= 1000]


def cpu_model() -> tuple[str, bool, int]:
    """Name of the processor, whether this is a virtual machine, and the number of sockets."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
            info = f.read()
    except OSError:
        return platform.processor(), False, 1
    name = re.search(r"^model name\s*:\s*(.*)$", info, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.*)$", info, re.MULTILINE)
    sockets = len(set(re.findall(r"^physical id\s*:\s*(\d+)$", info, re.MULTILINE))) or 1
    return name.group(1).strip() if name else "", bool(flags and "hypervisor" in flags.group(1).split()), sockets


def this_core_power() -> CorePower:
    """Watts per busy core of this machine."""
    model, virtual, sockets = cpu_model()
    cores = (psutil.cpu_count(logical=False) or os.cpu_count() or 1) // sockets
    return core_power(model, cores, virtual=virtual, table=[] if virtual else codecarbon_tdp_table())


class CpuSource:
    """CPU time of the process tree x watts per busy core."""

    name = "cpu"
    kind: Kind = "modelled"
    poll_interval_s = 1.0  # for the power log alone: the kernel adds up

    def __init__(self, power: CorePower) -> None:
        self._power = power

    def poll(self) -> None:
        """Nothing: the kernel adds up."""

    def mark(self) -> Mark:
        usage = tree_usage()
        return Mark(usage.time_s, usage.cpu_s * self._power.power_w, stale_s=usage.resolution_s)

    def reading(self, segments: Sequence[Segment]) -> tuple[SourceReading, list[str]]:
        power = self._power
        cpu_s = sum(s.energy_j for s in segments) / power.power_w
        over_s, under_s = edge_error_s(segments)
        if cpu_s < -over_s:
            return invalid(self.name, self.kind, "a child process left the tree without being waited for"), []
        cpu_s = max(0.0, cpu_s)
        return SourceReading(
            name=self.name,
            kind=self.kind,
            energy_j=cpu_s * power.power_w,
            low_j=max(0.0, cpu_s - over_s) * power.low_w,
            high_j=(cpu_s + under_s) * power.high_w,
            note=f"{cpu_s:.3f} s of CPU time x {_per_core(power)}",
        ), []

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
            "detail": f"CPU time of this process tree x {_per_core(self._power)}",
            "reason": None,
            "remedy": None,
        }

    def restart(self) -> None:
        """Nothing: the marks of a child are its own."""

    def close(self) -> None:
        pass


class RamSource:
    """Resident memory of the process tree x watts per GB, sampled."""

    name = "ram"
    kind: Kind = "modelled"
    poll_interval_s = 1.0

    def __init__(self) -> None:
        self._trace = PowerTrace()

    def poll(self) -> None:
        self.mark()

    def mark(self) -> Mark:
        usage = recent_tree_usage(SHARED_S)
        self._trace.add(usage.time_s, usage.resident_bytes / 1e9 * RAM_W_PER_GB)
        return Mark(usage.time_s, self._trace.energy_j(self._trace.times_s[0], usage.time_s))

    def reading(self, segments: Sequence[Segment]) -> tuple[SourceReading, list[str]]:
        energy_j = sum(s.energy_j for s in segments)
        duration_s = sum(s.duration_s for s in segments)
        mean_gb = energy_j / RAM_W_PER_GB / duration_s if duration_s else 0.0
        return SourceReading(
            name=self.name,
            kind=self.kind,
            energy_j=energy_j,
            low_j=energy_j * RAM_LOW_W_PER_GB / RAM_W_PER_GB,
            high_j=energy_j * RAM_HIGH_W_PER_GB / RAM_W_PER_GB,
            note=f"{mean_gb:.2f} GB resident x {RAM_W_PER_GB} W per GB ({RAM_LOW_W_PER_GB} to {RAM_HIGH_W_PER_GB})",
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
            "detail": f"resident memory of this process tree x {RAM_W_PER_GB} W per GB",
            "reason": None,
            "remedy": None,
        }

    def restart(self) -> None:
        self._trace.clear()

    def close(self) -> None:
        pass


def _per_core(power: CorePower) -> str:
    return f"{power.power_w:.1f} W per busy core ({power.low_w:.1f} to {power.high_w:.1f}), {power.origin}"
