"""Whether a batch system gave this job the whole node: what counts the node counts others too where it did not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from greenprune.bench.energy.node import slurm
from greenprune.bench.energy.parts import JETSON, part_of
from greenprune.bench.energy.sensors.place import Found, row
from greenprune.bench.energy.source import Source

WHOLE_NODE = "GREENPRUNE_WHOLE_NODE"
"""Set to 1: the node is this job's alone, whatever Slurm's number of processors says. It leaves out those that it keeps for
the system (core specialization), and counts cores on some clusters where Linux counts threads."""

REMEDY = (
    "ask for the whole node: slurm_exclusive = true, or sbatch --exclusive; where the job has it and Slurm counts fewer cores "
    f"than Linux does, say so: export {WHOLE_NODE}=1"
)


@dataclass(frozen=True)
class NodePart:
    """How much of its node a job has."""

    cores: int
    of: int

    def __str__(self) -> str:
        return (
            f"it counts the whole node, of which this job has {self.cores} of {self.of} cores (Slurm): the others' work would "
            "be counted with it"
        )


def part_of_node(environ: Mapping[str, str], cores: int | None = None) -> NodePart | None:
    """What a Slurm job has of its node; None: all of it, or this is no job.

    Args:
        cores: of the node; None: as the system says, whatever this process may use of them.
    """
    given = slurm.cpus(environ)
    if "SLURM_JOB_ID" not in environ or given is None or environ.get(WHOLE_NODE) == "1":
        return None
    total = cores or os.cpu_count() or 1
    return NodePart(given, total) if given < total else None


def without_node(found: Found, why: str, remedy: str | None = None) -> Found:
    """What was found, without the sources that count a whole node: they cannot be used, and the reason is told.

    A GPU is a job's own. What is modelled is modelled from the job's own processes.

    Args:
        why: others are on the node, and what can be done about it.
    """
    own: list[Source] = []
    others: list[Source] = []
    for source in found.sources:
        (own if part_of(source.name) == "gpu" and not source.name.startswith(JETSON) else others).append(source)
    for source in others:
        source.close()
    rows = [row(source.name, source.kind, why, remedy) for source in others]
    return Found(own, [*found.unusable, *rows], found.absent)
