"""Workers: fresh processes that do one job each and tell of it in JSON lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from greenprune.bench.errors import UserError
from greenprune.bench.run.job import Job

Todo = TypeVar("Todo")
Done = TypeVar("Done")

OUTPUT_FILE = "output.log"
JOB_FILE = "job.json"  # there while a run goes on; one that was left by a killed launcher is overwritten

WORKER = """\
import json, os, sys
sys.path[:] = json.loads(sys.argv[1])
cores = json.loads(sys.argv[2])
if cores:
    os.sched_setaffinity(0, cores)
from greenprune.bench.run.worker import main
sys.exit(main(sys.argv[3:]))
"""
"""A worker imports from where the launcher did: `-m` would put the working directory, a user's own folder, first.

It takes its cores before anything is imported: libraries count them when they are loaded.
"""

ENVIRONMENT = {
    "GOMP_SPINCOUNT": "10000",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
}
"""Of every run, unless the user set it otherwise.

Threads that wait for each other give their core away soon: GNU OpenMP's default is to spin for about a minute of CPU time,
which beside one other busy process on a machine of four cores made a training step 12 times slower. And the C library keeps
the memory it has: by default it gives it back and asks for it again in each step (10,000 page faults and 10 to 14 % of the
CPU time of a training step of ResNet-20, and layers that take 4.5 ms in one minute and 8.5 ms in the next).
"""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Both are set to the number of cores that a run has to itself: whichever the user limited otherwise would win."""


@dataclass(frozen=True)
class Ended:
    """How a worker ended: its exit code, and the reason that it gave for having no result."""

    code: int
    reason: str | None


class Workers:
    """The workers of a launcher, one or several at a time; `run` may be called from several threads."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def run(self, job: Job, event: Callable[[dict[str, Any]], None]) -> Ended:
        """Do `job` in a fresh process, hand on its events, and wait for its end. Its other output goes to `OUTPUT_FILE`."""
        folder = Path(job.folder)
        folder.mkdir(parents=True, exist_ok=True)
        job_file = folder / JOB_FILE
        job_file.write_text(job.model_dump_json(), encoding="utf-8")
        threads = dict.fromkeys(THREADS, str(len(job.cores))) if job.cores else {}
        reason = None
        try:
            with (folder / OUTPUT_FILE).open("w", encoding="utf-8") as log:
                arguments = [json.dumps(sys.path), json.dumps(job.cores), str(job_file)]
                # The launcher only waits for lines: it must not use the processor while energy is measured.
                with subprocess.Popen(
                    [sys.executable, "-P", "-c", WORKER, *arguments],
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env=ENVIRONMENT | os.environ | threads,
                ) as process:
                    self._started(process)
                    assert process.stdout is not None
                    try:
                        for line in process.stdout:
                            try:
                                told = json.loads(line)
                            except ValueError:  # half a line: the process was killed while it wrote
                                continue
                            if told["event"] == "failed":
                                reason = told["reason"]
                            else:
                                event(told)
                    except BaseException:
                        process.terminate()
                        raise
                self._running.discard(process)
                return Ended(process.returncode, reason)
        finally:
            job_file.unlink(missing_ok=True)

    def _started(self, process: subprocess.Popen[str]) -> None:
        with self._lock:
            self._running.add(process)
            if self._closed:
                process.terminate()

    def terminate(self) -> None:
        """End those that run, and at once those that are still started."""
        with self._lock:
            self._closed = True
            for process in self._running:
                process.terminate()


def share_cores(jobs: int, device: str) -> list[tuple[int, ...]]:
    """The cores of each of `jobs` workers at a time; with one, none are named: it takes what there is.

    Raises:
        UserError: more workers than cores, or several on a GPU.
    """
    if jobs == 1:
        return [()]
    if device != "cpu":
        raise UserError(f"--jobs {jobs}: runs on one GPU disturb each other; allowed with --device {device}: 1")
    if not hasattr(os, "sched_getaffinity"):
        raise UserError(f"--jobs {jobs}: this system cannot keep processes to cores of their own; allowed here: 1")
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= jobs <= len(cores):
        raise UserError(f"--jobs {jobs}: allowed is 1 to {len(cores)}, the number of cores")
    each = len(cores) // jobs
    return [tuple(cores[i * each : (i + 1) * each]) for i in range(jobs)]


def in_parallel(
    one: Callable[[Todo, tuple[int, ...]], Done],
    todo: Sequence[Todo],
    shares: Sequence[tuple[int, ...]],
    workers: Workers,
) -> list[Done]:
    """`one` of each of `todo`, as many at a time as there are `shares`, each on cores of its own.

    An interruption ends the workers.
    """
    if len(shares) == 1:
        return [one(each, shares[0]) for each in todo]
    free = SimpleQueue[tuple[int, ...]]()
    for cores in shares:
        free.put(cores)

    def on_own_cores(each: Todo) -> Done:
        cores = free.get()
        try:
            return one(each, cores)
        finally:
            free.put(cores)

    with ThreadPoolExecutor(len(shares)) as pool:
        futures = [pool.submit(on_own_cores, each) for each in todo]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            workers.terminate()
            raise


def exit_reason(code: int) -> str:
    """In words, how a process ended: "exit code 1", "killed by signal 9 (SIGKILL)"."""
    if code == 0:
        return "exit code 0, but no result"
    if code > 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    return f"killed by signal {-code} ({name})"
