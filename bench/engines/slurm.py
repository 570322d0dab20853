"""Runs as jobs of Slurm, submitted by submitit: an array with a task for each run, and a last job that measures.

The jobs go on when the start that submitted them is closed; another one finds them by what lies beside the results. What a
run has come to is read from its record, its lock, which is touched while it is at work, and what its job said when it ended.
"""

from __future__ import annotations

import importlib
import os
import shlex
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from greenprune.bench.engines.cluster import code, queue
from greenprune.bench.engines.cluster.options import EngineOptions
from greenprune.bench.engines.cluster.remote import AsJob, DoMeasure, DoRun
from greenprune.bench.engines.cluster.stored import (
    FOLDER,
    LOG,
    STOPPED,
    EndedJob,
    Jobs,
    read_ended,
    read_jobs,
    submitting,
    write_ended,
    write_jobs,
)
from greenprune.bench.engines.cluster.watch import Watch
from greenprune.bench.engines.engine import MEASURING, Place, Tell
from greenprune.bench.engines.names import SLURM
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened
from greenprune.bench.inference.job import JointJob
from greenprune.bench.plan.plan import state
from greenprune.bench.run import stop
from greenprune.bench.run.one import failed_at
from greenprune.bench.run.stop import Stopped
from greenprune.bench.run.task import Task
from greenprune.bench.text import plural

FIRST_POLL_S, LONGEST_POLL_S = 0.5, 15.0
LARGEST_ARRAY = 1000  # Slurm's own default, MaxArraySize, is one more
MOST_LOST = 3
"""How often a start submits a run again whose job has gone without a word, as when its node was lost, or began too early."""


class Slurm:
    """As of `Engine`."""

    name, elsewhere = SLURM, True

    def __init__(self, options: EngineOptions, say: Callable[[str], None]) -> None:
        self._options, self._say = options, say
        self._last_job: str | None = None  # that this start has submitted, or found waiting

    def submit(self, tasks: Sequence[Task], tell: Tell, measuring: JointJob | None = None) -> None:
        folder = Path(tasks[0].results)
        self._submit(folder, tasks, measuring)
        keys = set(_keys(tasks))
        arrays = queue.arrays_of(job for key, job in read_jobs(folder).runs.items() if key in keys)
        self._say(
            f"{plural(len(tasks), 'run')}: jobs {', '.join(arrays)} of Slurm, which go on without it when this is closed; "
            f"greenprune status {folder} shows them, greenprune cancel {folder} ends them"
        )
        lost: dict[str, int] = {}
        watch = Watch(folder, tasks, tell)
        wait_s = FIRST_POLL_S
        while watch.open:
            gone = watch.look()
            for task in gone:
                lost[task.key] = lost.get(task.key, 0) + 1
                if lost[task.key] > MOST_LOST:
                    watch.give_up(task)
            again = [task for task in gone if task.key in watch.open]
            if again:
                self._submit(folder, [_anew(task, folder) for task in again], measuring)
            wait_s = FIRST_POLL_S if watch.moved else min(1.5 * wait_s, LONGEST_POLL_S)
            if watch.open:
                _rest(wait_s)

    def resume(self, folder: Path) -> Mapping[str, str]:
        there = queue.queued() or {}
        jobs = read_jobs(folder).runs
        return {key: f"job {job}: {there[job]}" for key, job in jobs.items() if job in there}

    def measure(self, job: JointJob) -> int:
        folder = Path(job.folder)
        with submitting(folder):
            jobs, there = read_jobs(folder), queue.queued()
            number = jobs.measuring
            if there is None and (number is None or number != self._last_job):  # an older one measured what was then
                self._say("not measured: Slurm does not answer on this machine (squeue); start again where it does")
                return 1
            if number is None or (there is not None and number not in there):  # there is none, or it was too early
                number = self._last(folder, job, code.keep(folder / FOLDER), ())
                write_jobs(jobs.model_copy(update={"measuring": number}), folder)
        wait_s, missing = FIRST_POLL_S, 0
        while True:
            there, ended = queue.queued(), read_ended(folder, number)
            if ended is not None and not (ended.status == STOPPED and number in (there or {})):
                if ended.status != "done":
                    self._say(f"job {number}: {ended.said}")
                return 0 if ended.status == "done" else 1
            missing = missing + 1 if there is not None and number not in there else 0
            if missing > 2:
                self._say(f"job {number}: ended without a word; see {folder / FOLDER / LOG}")
                return 1
            _rest(wait_s)
            wait_s = min(1.5 * wait_s, LONGEST_POLL_S)

    def cancel(self, folder: Path, leaving: Collection[str] = ()) -> Iterator[tuple[str, str]]:
        if not (folder / FOLDER).is_dir():
            return
        with submitting(folder):
            jobs, there = read_jobs(folder), queue.queued()
            named = {**jobs.runs, **({MEASURING: jobs.measuring} if jobs.measuring else {})}
            unended = [job for job in named.values() if read_ended(folder, job) is None]
            if unended and there is None:
                raise UserError(
                    f"{folder}: Slurm does not answer here (squeue), and its jobs {', '.join(queue.arrays_of(unended))} may go "
                    "on; cancel them where it does"
                )
            ended = {key: job for key, job in named.items() if job in (there or {}) and key not in leaving}
            if not queue.cancel(list(ended.values())):
                raise UserError(f"{folder}: Slurm refused to cancel its jobs ({', '.join(ended.values())})")
            for job in ended.values():  # those that had not begun cannot say so themselves
                write_ended(EndedJob(status=STOPPED, said=f"its job {job} was cancelled"), folder, job)
        for key, job in ended.items():
            yield key, f"job {job} is cancelled"

    # Submitting

    def _submit(self, folder: Path, tasks: Sequence[Task], measuring: JointJob | None) -> None:
        """Submit those of `tasks` that have no job, and the last job after all that have."""
        with submitting(folder):
            jobs = read_jobs(folder)
            there = queue.queued()
            if there is None:
                raise UserError(
                    f"--engine {SLURM}: Slurm does not answer on this machine (squeue); allowed here: local"
                )
            if jobs.measuring in there:
                self._last_job = jobs.measuring
            runs = dict(jobs.runs)
            todo = [task for task in tasks if runs.get(task.key) not in there]
            if not todo:
                return
            settings = todo[0].settings  # all runs of a suite have one recipe
            parameters = self._options.for_runs(settings.training, settings.device)
            kept = code.keep(folder / FOLDER)
            for wave in _waves(todo):
                for chunk in (wave[i : i + LARGEST_ARRAY] for i in range(0, len(wave), LARGEST_ARRAY)):
                    after = [
                        runs[key]
                        for task in chunk
                        for key in task.after
                        if runs.get(key) in there or key in _keys(todo)
                    ]
                    does = [DoRun(task.model_dump_json(), *self._where(folder, kept)) for task in chunk]
                    numbers = self._sbatch(does, parameters, folder, kept, after)
                    runs |= dict(zip(_keys(chunk), numbers, strict=True))
                    write_jobs(Jobs(runs=runs, measuring=jobs.measuring), folder)
            if measuring is not None:
                if jobs.measuring is not None:
                    queue.cancel([job for job in [jobs.measuring] if job in there])
                alive = [job for key, job in runs.items() if job in there or key in _keys(todo)]
                last = self._last(folder, measuring, kept, alive)
                write_jobs(Jobs(runs=runs, measuring=last), folder)

    def _last(self, folder: Path, measuring: JointJob, kept: Path, after: Sequence[str]) -> str:
        there = measuring.model_copy(update={"folder": str(folder.absolute())})
        parameters = self._options.for_measuring()
        does = DoMeasure(there.model_dump_json(), 60.0 * parameters["time"], *self._where(folder, kept))
        (number,) = self._sbatch([does], parameters, folder, kept, after)
        self._last_job = number
        return number

    @staticmethod
    def _where(folder: Path, kept: Path) -> tuple[str, list[str], str]:
        """As of `AsJob`."""
        return (
            str(folder.absolute()),
            [str(kept.absolute()), *(str(Path(path).absolute()) for path in sys.path)],
            os.getcwd(),
        )

    def _sbatch(
        self, does: Sequence[AsJob], parameters: Mapping[str, Any], folder: Path, kept: Path, after: Iterable[str]
    ) -> list[str]:
        """Submit jobs, an array where there are several; their numbers. Raises UserError."""
        try:
            slurm: Any = importlib.import_module("submitit.slurm.slurm")
        except ImportError:
            raise UserError(
                f"--engine {SLURM}: submitit is not installed; install it: python -m pip install 'greenprune[slurm]'"
            ) from None
        arrays = queue.arrays_of(after)
        setup = [f"export PYTHONPATH={_quoted(kept.absolute())}${{PYTHONPATH:+:$PYTHONPATH}}", *parameters["setup"]]
        given = {"job_name": f"greenprune-{folder.name}", **parameters, "setup": setup}
        if arrays:
            given["dependency"] = f"afterany:{':'.join(arrays)}"
        try:
            executor = slurm.SlurmExecutor(folder / FOLDER / LOG, max_num_timeout=self._options.max_num_timeout)
            executor.update_parameters(**given)
            with executor.batch():
                jobs = [executor.submit(each) for each in does]
            return [str(job.job_id) for job in jobs]
        except (RuntimeError, OSError, ValueError) as e:  # submitit's own errors are RuntimeErrors
            lines = [line for line in str(e).splitlines() if line.strip()]
            said = next((line for line in lines if "error" in line), lines[-1] if lines else type(e).__name__)
            raise UserError(f"--engine {SLURM}: Slurm refused the jobs ({shortened(said, 300)})") from None


def _anew(task: Task, folder: Path) -> Task:
    """The task, to be done again whatever its record says by now."""
    return task.model_copy(update={"failed_at": failed_at(state(task.run, folder))})


def _waves(tasks: Sequence[Task]) -> list[list[Task]]:
    """Those that wait for no other, and then those that do: an array of jobs begins as one. Without empty ones."""
    return [wave for wave in ([t for t in tasks if not t.after], [t for t in tasks if t.after]) if wave]


def _keys(tasks: Sequence[Task]) -> list[str]:
    return [task.key for task in tasks]


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _rest(wait_s: float) -> None:
    """Raises Stopped: this start was asked to end; the jobs go on."""
    if stop.asked():
        raise Stopped(stop.asked() or "interrupted")
    time.sleep(wait_s)


def make(options: EngineOptions, place: Place) -> Slurm:
    if len(place.shares) > 1:
        raise UserError(
            f"--jobs {len(place.shares)}: is for --engine local; allowed with --engine {SLURM}: slurm_array_parallelism in "
            "the file of --engine-config"
        )
    return Slurm(options, place.say)
