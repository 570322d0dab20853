"""Follows runs that jobs do, from what lies in their folders and from Slurm's queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from greenprune.bench.engines.cluster import queue
from greenprune.bench.engines.cluster.stored import (
    EARLY,
    FOLDER,
    LOG,
    STOPPED,
    EndedJob,
    read_ended,
    read_jobs,
    write_ended,
)
from greenprune.bench.engines.cluster.waiting import awaited
from greenprune.bench.engines.engine import Event, Tell, ended, started
from greenprune.bench.engines.progress import read_progress
from greenprune.bench.plan.plan import state
from greenprune.bench.records.folder import LOCK_FILE
from greenprune.bench.records.lock import is_held
from greenprune.bench.run.display import verdict
from greenprune.bench.run.one import failed_at_once, is_to_make
from greenprune.bench.run.shares import ALONE
from greenprune.bench.run.task import Status, Task

SURE = 3
"""Looks at which a job is missing before it is believed to be gone: what lies on NFS is seen a little later."""


class Watch:
    """What has become of tasks.

    Attributes:
        open: the tasks that have not ended, by key.
        moved: whether the last look told anything.
    """

    def __init__(self, folder: Path, tasks: Sequence[Task], tell: Tell) -> None:
        self._folder, self._tell = folder, tell
        self.open = {task.key: task for task in tasks}
        self.moved = False
        self._started: set[str] = set()
        self._told: dict[str, dict[str, Any] | None] = {}
        self._missing: dict[str, int] = {}

    def look(self) -> list[Task]:
        """Tell what is new; the tasks that need another job: theirs has gone without a word, or began too early."""
        self.moved = False
        there, jobs = queue.queued(), read_jobs(self._folder).runs
        return [task for task in list(self.open.values()) if self._is_gone(task, jobs, there)]

    def give_up(self, task: Task) -> None:
        """It goes on no more."""
        log = self._folder / FOLDER / LOG
        record = failed_at_once(
            task.job(task.run, ALONE, 1), f"its job ended with no result, again and again; see {log}"
        )
        if job := read_jobs(self._folder).runs.get(task.key):  # what waits for this run is not to wait on
            write_ended(EndedJob(status="failed", said=verdict(record)), self._folder, job)
        self._end(task, "failed", verdict(record))

    def _is_gone(self, task: Task, jobs: Mapping[str, str], there: Mapping[str, queue.Queued] | None) -> bool:
        job = jobs.get(task.key, "")
        found = read_ended(self._folder, job) if job else None
        queued = there is not None and job in there
        if found is not None and found.status == EARLY:
            return not queued and self._is_due_again(task, jobs, there, found.said)
        if found is not None and not (queued and found.status == STOPPED):  # else Slurm begins it again by itself
            status: Status = found.status if found.status in get_args(Status) else "failed"  # type: ignore[assignment]
            self._end(task, status, found.said)
            return False
        told = read_progress(task.folder)
        if told is not None and told != self._told.get(task.key):
            self._told[task.key] = told
            self._start(task)
            self._tell(Event(task.key, told))
        elif queued and there is not None and there[job].state == "RUNNING":
            self._start(task)
        if there is None or queued or is_held(task.folder / LOCK_FILE):
            self._missing.pop(task.key, None)
            return False
        self._missing[task.key] = self._missing.get(task.key, 0) + 1
        if self._missing[task.key] < SURE:
            self.moved = True  # look again soon
            return False
        del self._missing[task.key]
        return self._without_a_word(task, job)

    def _is_due_again(
        self, task: Task, jobs: Mapping[str, str], there: Mapping[str, queue.Queued] | None, said: str
    ) -> bool:
        """Of a task whose job began too early: whether what it waits for is queued again by now, or over."""
        left = awaited(task, self._folder, jobs)
        if left and not any(key in self.open for key in left):  # that was stopped, and goes on in no job
            self._end(task, "stopped", said)
            return False
        return there is not None and all(jobs[key] in there for key in left)

    def _without_a_word(self, task: Task, job: str) -> bool:
        record = state(task.run, self._folder).record
        if record is not None and record.status == "done" and not (task.remake and is_to_make(record, task.folder)):
            self._end(task, "done", verdict(record))
        elif job and queue.end_of(job) == "CANCELLED":
            self._end(task, "stopped", f"its job {job} was cancelled")
        else:
            return True
        return False

    def _start(self, task: Task) -> None:
        if task.key not in self._started:
            self._started.add(task.key)
            self.moved = True
            self._tell(started(task.key))

    def _end(self, task: Task, status: Status, said: str) -> None:
        if status not in ("kept", "unneeded"):
            self._start(task)
        self.moved = True
        del self.open[task.key]
        self._tell(ended(task.key, status, said))
