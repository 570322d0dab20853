"""On what a command was measured, as reports on energy ask for it. Without torch, unlike `greenprune.bench.machine.machine`."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

import psutil
from greenprune.bench.energy.parts import part_of
from greenprune.bench.energy.usage.processors import cpu_model


def hardware(sources: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Processor, cores, memory in GiB, GPUs that were read, system, version of Python.

    Args:
        sources: as `EnergyMeter.describe` gives them.
    """
    gpus = [
        str(row["detail"]).partition(",")[0] for row in sources if row["available"] and part_of(row["source"]) == "gpu"
    ]
    return {
        "cpu": cpu_model()[0] or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": ", ".join(gpus) or None,
        "system": platform.system(),
        "python": platform.python_version(),
    }
