"""What Slurm says of jobs: by squeue and scontrol alone. Accounting (sacct) is not there on every cluster."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LIMIT_S = 60.0


@dataclass(frozen=True)
class Queued:
    """A job that is not over. `state` as Slurm calls it: PENDING, RUNNING, ...; `where`: its node, or why it waits."""

    state: str
    where: str

    def __str__(self) -> str:
        return f"{self.state.lower()} ({self.where})" if self.where else self.state.lower()


def queued() -> dict[str, Queued] | None:
    """The jobs of this user that are not over, by number, each task of an array apart; None: Slurm does not answer."""
    out = _asked(["squeue", "--me", "--noheader", "--array", "--format=%i|%T|%R"])
    if out is None:
        return None
    found = {}
    for line in out.splitlines():
        job, _, rest = line.strip().partition("|")
        state, _, where = rest.partition("|")
        if state:
            found[job] = Queued(state, where.strip("()"))
    return found


def end_of(job: str) -> str | None:
    """The state in which Slurm remembers a job that is over, such as CANCELLED; None: it does not (any more)."""
    out = _asked(["scontrol", "--oneliner", "show", "job", job]) or ""
    states = re.findall(r"\bJobState=(\w+)", out)
    return states[-1] if states else None


def cancel(jobs: Sequence[str]) -> bool:
    """Ask Slurm to end jobs; whether it answered."""
    return not jobs or _asked(["scancel", *jobs]) is not None


def arrays_of(jobs: Iterable[str]) -> list[str]:
    """The numbers of whole arrays and single jobs that `jobs` are of."""
    return list(dict.fromkeys(job.partition("_")[0] for job in jobs))


def _asked(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
