"""Which of the processes that a launcher started on this node should report the node's energy.

Counters of a CPU package and of a GPU count for everybody. Two ranks that see the same devices both read their joules, and
the sum over ranks is twice the truth.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from greenprune.bench.energy.node.slurm import job_gpus, number, tasks
from greenprune.bench.energy.parts import part_of
from greenprune.bench.energy.reading import Reporter

Ranks = Literal["each", "one_per_node"]

LAUNCHERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("LOCAL_RANK", ("LOCAL_WORLD_SIZE", "LOCAL_SIZE")),  # torchrun, Accelerate, Lightning; DeepSpeed has the second
    ("OMPI_COMM_WORLD_LOCAL_RANK", ("OMPI_COMM_WORLD_LOCAL_SIZE",)),  # Open MPI
    ("MV2_COMM_WORLD_LOCAL_RANK", ("MV2_COMM_WORLD_LOCAL_SIZE",)),  # MVAPICH2
    ("MPI_LOCALRANKID", ("MPI_LOCALNRANKS",)),  # MPICH's hydra, Intel MPI
    ("PALS_LOCAL_RANKID", ("PALS_LOCAL_SIZE",)),  # HPE Cray PALS
    ("PMI_LOCAL_RANK", ("PMI_LOCAL_SIZE",)),  # Cray PMI
    ("PMIX_LOCAL_RANK", ("PMIX_LOCAL_SIZE",)),
    ("JSM_NAMESPACE_LOCAL_RANK", ("JSM_NAMESPACE_LOCAL_SIZE",)),  # IBM's jsrun
    ("HOROVOD_LOCAL_RANK", ("HOROVOD_LOCAL_SIZE",)),
    ("FLUX_TASK_LOCAL_ID", ()),
    ("SLURM_LOCALID", ()),  # its number of tasks: see `slurm.tasks`
)
"""Variables of the rank on the node and of how many there are, the innermost launcher first."""

SPECIAL_STEPS = 0xFFFFFFF0
"""Slurm's numbers for what is no step of tasks, such as the batch script and a shell of salloc (slurm.h)."""

GLOBAL_RANKS = (("RANK", "WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE"), ("PMIX_RANK", "PMIX_SIZE"))
"""Of launchers that do not tell the rank on the node."""


@dataclass(frozen=True)
class LocalRank:
    """This process among those of one launcher on this node."""

    rank: int
    size: int | None
    origin: str


def local_rank(environ: Mapping[str, str]) -> LocalRank | None:
    """From the launcher's variables; None where no launcher is at work, or only one process is on this node."""
    alone = False
    for variable, sizes in LAUNCHERS:
        rank = number(environ, variable)
        if rank is None:
            continue
        if variable == "SLURM_LOCALID":
            # In the batch script itself, and in a shell of salloc, there is no step and so no second task.
            step = number(environ, "SLURM_STEP_ID")
            step = number(environ, "SLURM_STEPID") if step is None else step
            if step is None or step >= SPECIAL_STEPS:
                continue
            size, told = tasks(environ), variable
        else:
            size = next((found for name in sizes if (found := number(environ, name)) is not None), None)
            told = ", ".join([variable, *(name for name in sizes if name in environ)])
        if size is not None and size <= 1 and rank == 0:
            alone = True  # by this launcher; an outer one may have started others
            continue
        return LocalRank(rank, size, told)
    if alone or _master_is_elsewhere(environ):  # its global rank says nothing of this node
        return None
    for variable, size_variable in GLOBAL_RANKS:
        rank, size = number(environ, variable), number(environ, size_variable)
        if rank is not None and size is not None and size > 1:
            return LocalRank(rank, None, f"{variable}, {size_variable}; taken for one node")
    return None


def reporter(environ: Mapping[str, str], ranks: Ranks) -> Reporter | None:
    """Who reports for this node; None without other ranks.

    Raises:
        ValueError: `ranks` is neither "each" nor "one_per_node".
    """
    if ranks not in ("each", "one_per_node"):
        raise ValueError(f'ranks = "{ranks}" is neither "each" nor "one_per_node"')
    found = local_rank(environ)
    if found is None:
        return None
    return Reporter(
        node=environ.get("SLURMD_NODENAME") or socket.gethostname(),
        local_rank=found.rank,
        local_size=found.size,
        origin=found.origin,
        reports=ranks == "each" or found.rank == 0,
    )


def in_words(reporter: Reporter) -> str:
    """`rank 1 of 4 on node07 (LOCAL_RANK, LOCAL_WORLD_SIZE)`."""
    of = "" if reporter.local_size is None else f" of {reporter.local_size}"
    return f"rank {reporter.local_rank}{of} on {reporter.node} ({reporter.origin})"


def elsewhere(reporter: Reporter) -> str:
    """Why a rank that does not report has no joules."""
    return f"reported by rank 0 of this node; this is {in_words(reporter)}"


def absent_rank(reporter: Reporter) -> dict[str, Any]:
    """A row of `EnergyMeter.describe` in a rank that does not report."""
    return {
        "source": "sensors",
        "kind": "measured",
        "available": False,
        "reason": elsewhere(reporter),
        "remedy": None,
    }


def of_node(
    reporter: Reporter | None, environ: Mapping[str, str], device: str | None, gpu_uuids: Sequence[str] | None
) -> tuple[str | None, Sequence[str] | None, tuple[int, ...]]:
    """Which GPUs a rank counts where one reports for its node: device, UUIDs, and the job's GPUs as the node numbers them.

    The one that reports: those that were named by UUID, with "cpu" none, else all that the job has, also where the launcher
    showed every rank only its own. The others none.
    """
    if reporter is None or not reporter.reports or (device == "cpu" and not gpu_uuids):
        return "cpu", None, ()
    if gpu_uuids:
        return device, gpu_uuids, ()
    return None, None, job_gpus(environ)


def rank_warnings(
    reporter: Reporter, sensors: Sequence[str], device: str | None, environ: Mapping[str, str], *, alone: bool
) -> list[str]:
    """What adding up the ranks of a node would count wrongly.

    `device`: as of `EnergyMeter`, "" where GPUs were named by UUID. `alone`: every rank reads for itself.
    """
    size = reporter.local_size
    gpus = [name for name in sensors if part_of(name) == "gpu"]
    if not alone:
        of_job = len(job_gpus(environ))
        if device != "cpu" and size is not None and len(gpus) < min(size, of_job or size) and (gpus or of_job):
            return [
                f"{in_words(reporter)} reports for its node and sees {len(gpus)} of the GPUs of {size} ranks; where each "
                'rank sees its own alone, EnergyMeter(ranks="each") counts all'
            ]
        return []
    # A rank that names its GPU by its own number or by UUID, or is shown one alone, shares it with nobody.
    number = "cuda:0" if device == "cuda" else device
    shown_one = len(environ.get("CUDA_VISIBLE_DEVICES", ",").split(",")) == 1
    own = number in ("", f"cuda:{reporter.local_rank}") or (len(gpus) == 1 and shown_one)
    shared = [name for name in sensors if part_of(name) != "gpu"] + ([] if own else gpus)
    if not shared:
        return []
    return [
        f"{in_words(reporter)}: every rank of this node that measures reads {', '.join(shared)} as a whole, so do not add "
        'their joules up; EnergyMeter(ranks="one_per_node") lets rank 0 report for all'
    ]


def _master_is_elsewhere(environ: Mapping[str, str]) -> bool:
    """Whether rank 0 of torch's process group is certainly on another node, as in a cluster of one process a pod."""
    master = environ.get("MASTER_ADDR", "").strip().lower()
    own = socket.gethostname().lower()
    here = ("", "localhost", "::1", "0.0.0.0", own, own.partition(".")[0])
    return not (master in here or master.startswith("127.") or master.partition(".")[0] == own.partition(".")[0])
