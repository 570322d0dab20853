"""Runs on this machine, one or several at a time, each in a process of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from greenprune.bench.engines.engine import MEASURING, Options, Place, Tell
from greenprune.bench.engines.names import LOCAL
from greenprune.bench.engines.perform import perform
from greenprune.bench.engines.ready import Ready
from greenprune.bench.errors import UserError
from greenprune.bench.inference.job import JointJob
from greenprune.bench.records.folder import LOCK_FILE, running
from greenprune.bench.records.lock import holder_of
from greenprune.bench.run.parallel import in_parallel
from greenprune.bench.run.process import Workers
from greenprune.bench.run.shares import Share
from greenprune.bench.run.side_by_side import measure_in_child
from greenprune.bench.run.task import Task


class EngineOptions(Options):
    """None: `--jobs` and the suite's `[run]` say all."""


class Local:
    """As of `Engine`. What it does ends with the process that it is in."""

    name, elsewhere = LOCAL, False

    def __init__(self, place: Place) -> None:
        self._place = place

    def submit(self, tasks: Sequence[Task], tell: Tell, measuring: JointJob | None = None) -> None:
        workers = Workers(self._place.running, noting=True)
        shares, ready = self._place.shares, Ready(tasks)

        def in_turn(_: int, share: Share) -> None:
            while (found := ready.next(lambda: workers.stopping)) is not None:
                task, held = found
                if perform(task, workers, tell, share=share, jobs=len(shares), wait=held):
                    ready.ended(task)
                else:
                    ready.held(task)

        in_parallel(in_turn, range(len(shares)), shares, workers)

    def resume(self, folder: Path) -> Mapping[str, str]:
        return {key: f"run by {holder or 'somebody'}" for key, holder in running(folder).items()}

    def measure(self, job: JointJob) -> int:
        return measure_in_child(job)

    def cancel(self, folder: Path, leaving: Collection[str] = ()) -> Iterator[tuple[str, str]]:
        """Asks the processes on this machine that do runs, or measure, to save and stop, each once; those of other machines
        it cannot reach."""
        asked: set[int] = set()
        refused = []
        for key, holder in {**running(folder), MEASURING: holder_of(folder / LOCK_FILE)}.items():
            if key in leaving or holder is None or not holder.here or holder.pid == os.getpid():
                continue
            try:
                if holder.pid not in asked:
                    os.kill(holder.pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
            except PermissionError:
                refused.append(f"{key} ({holder})")
                continue
            asked.add(holder.pid)
            yield key, f"{holder} is asked to save it and stop"
        if refused:
            raise UserError(f"{folder}: {', '.join(refused)} cannot be ended by this user; whoever started it can")


def make(options: EngineOptions, place: Place) -> Local:
    return Local(place)
