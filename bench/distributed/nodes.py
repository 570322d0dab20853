"""Where the nodes of a run find each other, by what the batch system tells."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from greenprune.bench.errors import UserError

PORT = 29400
"""torchrun's. Of several jobs on a node each takes another one: the job's number is added."""


@dataclass(frozen=True)
class Nodes:
    """For torchrun's launcher.

    Attributes:
        node: the number of this one.
        run_id: what the run is called on all of them; "": anything.
    """

    node: int = 0
    run_id: str = ""
    backend: str = "c10d"
    endpoint: str = "localhost:0"
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def here(cls, nodes: int, environ: Mapping[str, str] = os.environ) -> Nodes:
        """Raises UserError: there is no word of so many nodes."""
        if nodes == 1:
            return cls()
        told, node, address = _told(environ)
        if told != nodes or node is None or not address:
            raise UserError(missing(nodes, nodes_here(environ)))
        job = environ.get("SLURM_JOB_ID", "0")
        port = PORT + int(re.sub(r"\D", "", job) or 0) % 10_000
        again = environ.get("SLURM_RESTART_COUNT", "0")
        return cls(node, f"{job}.{again}", "static", f"{address}:{port}", {"rank": node})


def spread(nodes: int, environ: Mapping[str, str] = os.environ) -> list[str]:
    """What a command has to begin with to run once on each of so many nodes; empty: it does already, or there is no way.

    A batch script of Slurm runs on the first node of its job alone.
    """
    there = _number(environ, "SLURM_JOB_NUM_NODES")
    if nodes == 1 or there != nodes or _number(environ, "SLURM_STEP_NUM_NODES") == nodes:
        return []
    return ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--overlap"]


def missing(nodes: int, told: int | None) -> str:
    """The sentence for who has not that many."""
    have = "there is one machine alone" if told is None else f"the job has {told}"
    return f"training.nodes = {nodes}: {have}; allowed is 1, or {nodes} inside a job of Slurm that has as many nodes"


def nodes_here(environ: Mapping[str, str] = os.environ) -> int | None:
    """How many nodes this process was started on, or can start others on; None: nobody tells."""
    step, job = _told(environ)[0], _number(environ, "SLURM_JOB_NUM_NODES")
    return step if job is None else job


def _told(environ: Mapping[str, str]) -> tuple[int | None, int | None, str]:
    """Number of nodes, of this one, and the address of the first."""
    nodes = _number(environ, "SLURM_STEP_NUM_NODES")
    if nodes is None:
        nodes = _number(environ, "SLURM_JOB_NUM_NODES")
    listed = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST", "")
    return nodes, _number(environ, "SLURM_NODEID"), first_of(listed)


def first_of(listed: str) -> str:
    """The first node of a list as Slurm writes it: "a[07-09,12],b"."""
    found = re.match(r"([^,\[]+)(?:\[([^\]]+)\])?", listed)
    if found is None:
        return ""
    name, numbers = found.groups()
    return name if numbers is None else name + re.split(r"[,-]", numbers)[0]


def _number(environ: Mapping[str, str], name: str) -> int | None:
    value = environ.get(name, "")
    return int(value) if value.isdigit() else None
