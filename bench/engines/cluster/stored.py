"""What a start has submitted, beside the results: so that the next one, on whatever machine, finds the jobs.

results/<suite>/slurm/jobs.json   the job of each run
                      ended/      how each job ended, by its number
                      log/        what the jobs printed, and submitit's own files
                      code-.../   the code that they run
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from greenprune.bench.errors import UserError
from greenprune.bench.records.lock import holding
from greenprune.bench.records.stored import read_stored, write_stored
from pydantic import BaseModel, ConfigDict

FOLDER, JOBS_FILE, LOCK_FILE, ENDED, LOG = "slurm", "jobs.json", "submitting.lock", "ended", "log"
SCHEMA_VERSION = 1

STOPPED, EARLY = "stopped", "early"
"""Of a job: it was asked to save and end; what makes the length of its run had no result yet."""


class Jobs(BaseModel):
    """The job of each run ("12_3": task 3 of the array 12), and of the last one, which measures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    runs: dict[str, str] = {}
    measuring: str | None = None


class EndedJob(BaseModel):
    """How a job ended: a `Status` of its run, or `EARLY`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    status: str
    said: str = ""


@contextlib.contextmanager
def submitting(folder: Path) -> Iterator[None]:
    """Inside, no other start changes the jobs of the results folder `folder`. Raises UserError."""
    (folder / FOLDER).mkdir(exist_ok=True)
    with holding(folder / FOLDER / LOCK_FILE):
        yield


def read_jobs(folder: Path) -> Jobs:
    """Of the results folder `folder`. Raises UserError."""
    path = folder / FOLDER / JOBS_FILE
    return read_stored(path, Jobs, SCHEMA_VERSION, "a list of jobs") if path.exists() else Jobs()


def write_jobs(jobs: Jobs, folder: Path) -> None:
    write_stored(jobs, folder / FOLDER / JOBS_FILE)


def read_ended(folder: Path, job: str) -> EndedJob | None:
    """How the job of that number ended; None: it has not, or could not tell."""
    path = folder / FOLDER / ENDED / f"{job}.json"
    try:
        return read_stored(path, EndedJob, SCHEMA_VERSION, "the end of a job") if path.exists() else None
    except UserError:
        return None


def write_ended(ended: EndedJob | None, folder: Path, job: str) -> None:
    """None: it has begun again."""
    path = folder / FOLDER / ENDED / f"{job}.json"
    if ended is None:
        path.unlink(missing_ok=True)
    else:
        write_stored(ended, path)


def this_job(environ: Mapping[str, str] = os.environ) -> str:
    """The number of the job that this process is in."""
    array = environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{environ['SLURM_ARRAY_TASK_ID']}" if array else environ["SLURM_JOB_ID"]
