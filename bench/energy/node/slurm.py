"""What Slurm tells a job of the node that it is on: "Output environment variables" of sbatch(1) and srun(1)."""

from __future__ import annotations

import re
from collections.abc import Mapping

JOB_GPUS = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS")
"""All GPUs of the job on this node, as the node numbers them: not relative to a device cgroup that hides the others."""

STEP_TASKS = ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE")


def number(environ: Mapping[str, str], name: str) -> int | None:
    """The number that a variable holds, None where it holds none."""
    value = environ.get(name, "").strip()
    return int(value) if re.fullmatch(r"\d+", value) else None


def on_this_node(environ: Mapping[str, str], name: str) -> int | None:
    """The number of this node in a variable that lists one for each: "72(x2),36". None where that cannot be told."""
    counts: list[int] = []
    for part in environ.get(name, "").split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if found:
            counts += [int(found.group(1))] * min(int(found.group(2) or 1), 1_000_000)
    if len(set(counts)) == 1:
        return counts[0]
    node, nodes = number(environ, "SLURM_NODEID"), number(environ, "SLURM_STEP_NUM_NODES")
    # The node's number is that among the nodes of the step, which may be fewer than the job's.
    if node is None or node >= len(counts) or nodes not in (None, len(counts)):
        return None
    return counts[node]


def tasks(environ: Mapping[str, str]) -> int | None:
    """Tasks of this step on this node."""
    found = (on_this_node(environ, name) for name in STEP_TASKS)
    return next((count for count in found if count is not None), number(environ, "SLURM_NTASKS_PER_NODE"))


def cpus(environ: Mapping[str, str]) -> int | None:
    """Processors that the job has on this node, all of its steps together; those of this step where no more is told."""
    found = on_this_node(environ, "SLURM_JOB_CPUS_PER_NODE")
    return number(environ, "SLURM_CPUS_ON_NODE") if found is None else found


def job_gpus(environ: Mapping[str, str]) -> tuple[int, ...]:
    """The numbers of the job's GPUs on this node; empty where they are not told, or not as numbers."""
    told = next((environ[name] for name in JOB_GPUS if environ.get(name)), "")
    return tuple(map(int, told.split(","))) if re.fullmatch(r"\d+(,\d+)*", told) else ()
