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
from greenprune.bench.run import stop
from greenprune.bench.run.display import verdict
from greenprune.bench.run.job import Job
from greenprune.bench.run.one import failed_at_once, has_network, refuse_changed, run_job
from greenprune.bench.run.process import Workers
from greenprune.bench.run.shares import ALONE, Share
from greenprune.bench.run.stop import Stopped
from greenprune.bench.run.task import Status, Task
from greenprune.bench.training import files

POLL_S = 0.5
LOOK_S = 10.0
LOST = "another greenprune took this run over: there was no sign of this one for minutes"


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
        tell(ended(task.key, found.said))
        return True
    held = take_run(task.folder)
    waited = not isinstance(held, Lock)
    if waited:
        if not wait:
            return False
        tell(started(task.key))
        held = _waited(task, held, workers, tell)
    assert isinstance(held, Lock)
    try:
        found = _Found(task)  # meanwhile somebody may have done it
        if not waited:
            tell(started(task.key))
        record = found.state.record
        if found.said is not None:
            tell(ended(task.key, found.said, "done elsewhere meanwhile"))
        elif record is not None and record.status != "done" and record.finished_at != task.failed_at and not again:
            tell(ended(task.key, "failed", verdict(record)))  # in another start, since this one looked
        else:
            _do(task.job(found.run, share, jobs, shared), found, held, workers, tell)
    finally:
        held.release()
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
        if self.state.done and not (task.remake and not has_network(task.folder)):
            files.clear(task.folder)
            self.said = "kept"


def _waited(task: Task, held: Lock | Holder | None, workers: Workers, tell: Tell) -> Lock:
    tell(Event(task.key, {"event": "held", "by": "somebody who cannot be told" if held is None else str(held)}))
    while not isinstance(held, Lock):
        if workers.stopping or stop.asked():
            raise Stopped(stop.asked() or "interrupted")
        time.sleep(POLL_S)
        held = take_run(task.folder)
    return held


def _do(job: Job, found: _Found, lock: Lock, workers: Workers, tell: Tell) -> None:
    looked_s = time.monotonic()

    def why_end() -> str | None:
        nonlocal looked_s
        if time.monotonic() - looked_s < LOOK_S:
            return None
        looked_s = time.monotonic()
        return LOST if lock.lost else None

    if found.lacks:
        record = failed_at_once(job, found.lacks)
    else:
        progress = Progress(Path(job.folder))

        def event(told: dict[str, Any]) -> None:
            progress(told)
            tell(Event(job.key, told))

        try:
            record = run_job(job, found.run, event, workers, why_end)
        finally:
            progress.clear()
    tell(ended(job.key, "done" if record.status == "done" else "failed", verdict(record)))
