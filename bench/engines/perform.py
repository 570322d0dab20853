"""Doing one run where this process is: what the engines have in common."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from greenprune.bench.engines.engine import Event, Tell, ended, started
from greenprune.bench.engines.progress import Progress
from greenprune.bench.errors import UserError
from greenprune.bench.plan.plan import Run, State, resolved, state
from greenprune.bench.records.folder import take_run
from greenprune.bench.records.lock import Holder, Lock
from greenprune.bench.records.record import Record
from greenprune.bench.run import stop
from greenprune.bench.run.display import verdict
from greenprune.bench.run.job import Job
from greenprune.bench.run.one import failed_at_once, is_to_make, refuse_changed, run_job
from greenprune.bench.run.process import Workers
from greenprune.bench.run.shares import ALONE, Share
from greenprune.bench.run.stop import Stopped
from greenprune.bench.run.task import Status, Task
from greenprune.bench.training import files

POLL_S = 0.5


def perform(
    task: Task,
    workers: Workers,
    tell: Tell,
    *,
    share: Share = ALONE,
    jobs: int = 1,
    shared: str = "",
    wait: bool = True,
    again: bool = False,
) -> bool:
    """Do `task`, unless its record is complete, and tell what happens; its record is stored whatever does.

    Where another process takes it over, because there was no sign of this one for long, it is theirs.

    Args:
        share: what it has to itself.
        jobs: runs at a time on this machine.
        shared: why what counts the whole machine is not this run's alone; empty: it is, as far as is known here.
        wait: for another process that does the run, and then to take its result.
        again: do it also where it has failed since the suite was started.

    Returns:
        Whether the run has ended; False: another process does it, and `wait` says not to wait.

    Raises:
        UserError: a complete record was made with other settings, or there is no space left on the disk.
        Stopped: the suite is stopping.
    """
    found = _Found(task)
    if found.said is not None:
        if found.said == "kept":
            files.clear_unless_held(task.folder)
        tell(ended(task.key, found.said))
        return True
    begun = False
    while True:
        held = take_run(task.folder)
        if not isinstance(held, Lock) and not wait:
            return False
        if not begun:
            tell(started(task.key))
        begun = True
        lock = held if isinstance(held, Lock) else _waited(task, held, workers, tell)
        try:
            if _ends(task, lock, workers, tell, share, jobs, shared, again):
                return True
        finally:
            lock.release()


def _ends(
    task: Task, lock: Lock, workers: Workers, tell: Tell, share: Share, jobs: int, shared: str, again: bool
) -> bool:
    """Do `task`, unless somebody did it meanwhile; whether it has ended. False: somebody took it over."""
    found = _Found(task)
    record = found.state.record
    if found.said is not None:
        if found.said == "kept":
            files.clear(task.folder)
        tell(ended(task.key, found.said, "done elsewhere meanwhile"))
        return True
    if record is None or record.status == "done" or record.finished_at == task.failed_at or again:
        job = task.job(found.run, share, jobs, shared)
        record = failed_at_once(job, found.lacks) if found.lacks else _followed(job, found.run, lock, workers, tell)
    if record is None:
        return False
    tell(ended(task.key, "done" if record.status == "done" else "failed", verdict(record)))
    return True


class _Found:
    """What is to be found of a run before it begins.

    Attributes:
        run: with its length, where that is known.
        lacks: why it is not, or empty.
        said: that it needs not be done, or None.
    """

    def __init__(self, task: Task) -> None:
        results = task.folder.parent
        run, self.lacks = task.run, ""
        try:
            found = resolved(task.run, results)
        except UserError as e:  # what makes its length has no result
            found, self.lacks = task.run, str(e)
        self.run: Run = found or run
        self.state = State(None) if found is None else state(found, results)
        self.said: Status | None = "unneeded" if found is None else None  # as it is, it is equal to dense
        if not self.lacks:  # else nobody knows what its settings should be
            refuse_changed({task.key: self.state}, results)
        record = self.state.record
        if self.state.done and record and not (task.remake and is_to_make(record, task.folder)):
            self.said = "kept"


def _waited(task: Task, held: Lock | Holder | None, workers: Workers, tell: Tell) -> Lock:
    tell(Event(task.key, {"event": "held", "by": "somebody who cannot be told" if held is None else str(held)}))
    while not isinstance(held, Lock):
        if workers.stopping or stop.asked():
            raise Stopped(stop.asked() or "interrupted")
        time.sleep(POLL_S)
        held = take_run(task.folder)
    return held


def _followed(job: Job, run: Run, lock: Lock, workers: Workers, tell: Tell) -> Record | None:
    """As of `run_job`, with what is told of it shown from elsewhere too."""
    progress, record = Progress(Path(job.folder)), None

    def event(told: dict[str, Any]) -> None:
        progress(told)
        tell(Event(job.key, told))

    try:
        record = run_job(job, run, event, workers, lambda: lock.lost)
        return record
    finally:
        if record is not None or not lock.lost:  # else it is of who took the run over
            progress.clear()
