"""What a run's length is made from, where jobs make it: whether that is over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from greenprune.bench.engines.cluster.stored import STOPPED, read_ended
from greenprune.bench.errors import UserError
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import RECORD_FILE
from greenprune.bench.run.task import Task


def awaited(task: Task, folder: Path, jobs: Mapping[str, str]) -> list[str]:
    """Keys of the runs that make the length of `task` and are to go on: they have no result, and their job was stopped, has
    gone without a word, or has not ended. Slurm lets jobs begin that wait for one, however that ends.

    Args:
        folder: results/<suite>.
        jobs: of the runs there.
    """
    if task.settings.steps is not None:
        return []
    return [key for key in task.after if key in jobs and not _is_over(folder, key, jobs[key])]


def _is_over(folder: Path, key: str, job: str) -> bool:
    ended = read_ended(folder, job)
    if ended is not None and ended.status != STOPPED:
        return True
    path = folder / key / RECORD_FILE
    try:
        return read_record(path).status == "done"
    except UserError:
        return path.exists()  # whoever needs it says what is wrong with it
