"""Workers: fresh processes that do one job each and tell of it in JSON lines."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from greenprune.bench.records.record import Neighbour
from greenprune.bench.run import stop
from greenprune.bench.run.job import STOPPED, Job
from greenprune.bench.run.neighbours import Neighbours
from greenprune.bench.run.stop import Stopped
from greenprune.bench.run.watch import Watch
from greenprune.bench.suite.recipe import Running

OUTPUT_FILE = "output.log"
JOB_FILE = "job.json"  # there while a run goes on; one that was left by a killed launcher is overwritten

WORKER = """\
import json, os, sys
sys.path[:] = json.loads(sys.argv[1])
cores = json.loads(sys.argv[2])
if cores:
    os.sched_setaffinity(0, cores)
from greenprune.bench.distributed.rank import end
from greenprune.bench.run.worker import main
end(main(sys.argv[3:]))
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

MARK = "GREENPRUNE_WORKER"
"""In the environment of a worker and of all that it starts: by it they are found when it is over."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Both are set to the number of cores that a run has to itself: whichever the user limited otherwise would win."""


GRACE_S = 60.0
"""For a worker that was asked to stop: it finishes its step and saves. Then it is killed."""

CHECK_S = 1.0
"""Between two looks at whether a worker is still alive and within its limits, while it tells nothing."""

LOOK_S = 10.0
"""Between two looks at whether somebody else took its run over."""


@dataclass(frozen=True)
class Ended:
    """How a worker ended: its exit code, and the reason that there is for having no result.

    Attributes:
        full: there was no space left to write to.
        outside: it was ended from outside, which says nothing about what it was doing.
        lost: somebody else took its run over.
    """

    code: int
    reason: str | None
    full: bool = False
    outside: bool = False
    lost: bool = False


class Workers:
    """The workers of a launcher, one or several at a time; `run` may be called from several threads.

    Args:
        running: when a worker is given up.
        noting: whether all runs that go on on this machine, of this start, are these.
    """

    def __init__(self, running: Running | None = None, *, noting: bool = False) -> None:
        self._limits = running or Running()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._neighbours, self._noting = Neighbours(), noting
        self._closed_s: float | None = None  # since when everything is to end

    @property
    def stopping(self) -> bool:
        """Whether none is started any more."""
        return self._closed_s is not None

    def run(self, job: Job, event: Callable[[dict[str, Any]], None], lost: Callable[[], bool] = lambda: False) -> Ended:
        """Do `job` in a fresh process, hand on its events, and wait for its end. Its other output goes to `OUTPUT_FILE`.

        Whatever the worker started ends with it.

        Args:
            lost: whether somebody else took the run over, is asked now and then. Then the worker is killed: what it would
                save is older than theirs.

        Raises:
            Stopped: the launcher is stopping: what its workers come to means nothing.
        """
        folder = Path(job.folder)
        folder.mkdir(parents=True, exist_ok=True)
        job_file = folder / JOB_FILE
        cores = job.share.cores
        threads = dict.fromkeys(THREADS, str(len(cores))) if cores else {}
        here = Neighbour(key=job.key, gpus=job.share.gpus, gpu_uuids=job.share.gpu_uuids, cores=len(cores))
        ended: Ended | None = None
        finished = False
        mark = uuid.uuid4().hex
        try:
            for path in (job_file, folder / OUTPUT_FILE):  # should one be a link, nothing is written to where it leads
                if path.is_symlink():
                    path.unlink()
            self._neighbours.enter(folder, here)
            job_file.write_text(job.model_copy(update={"noted": self._noting}).model_dump_json(), encoding="utf-8")
            with (folder / OUTPUT_FILE).open("w", encoding="utf-8") as log:
                arguments = [json.dumps(sys.path), json.dumps(cores), str(job_file)]
                with self._lock:
                    if self._closed_s is not None:
                        raise Stopped(stop.asked() or "interrupted")
                    process = subprocess.Popen(
                        [sys.executable, "-P", "-c", WORKER, *arguments],
                        stdout=subprocess.PIPE,
                        stderr=log,
                        env=ENVIRONMENT | os.environ | threads | job.share.environment | {MARK: mark},
                        start_new_session=True,  # Ctrl-C is for the launcher, which gives the worker time to save
                    )
                    self._running.add(process)
            try:
                ended = self._follow(process, event, lost)
            except BaseException:
                self.terminate()
                self._follow(process, lambda told: None, lambda: False)
                raise
            finally:
                kill_tree(process.pid, mark)
                process.wait()
                assert process.stdout is not None
                process.stdout.close()
                self._running.discard(process)
            if self._closed_s is not None:
                raise Stopped(stop.asked() or "interrupted")
            finished = ended.code == 0 and not ended.lost
            return ended
        finally:
            self._neighbours.leave(folder, finished=finished)
            if ended is None or not ended.lost:  # else it is of who took the run over
                job_file.unlink(missing_ok=True)

    def _follow(
        self,
        process: subprocess.Popen[bytes],
        event: Callable[[dict[str, Any]], None],
        lost: Callable[[], bool],
    ) -> Ended:
        """Hand on events until the process is over, and end it when it is time to."""
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        watch = Watch(process.pid, self._limits)
        reason, full, rest = None, False, b""
        taken, looked_s = False, -math.inf  # whether somebody else has the run, and when that was looked at
        given_up_s: float | None = None  # since when it is asked to end
        # The launcher only waits: it must not use the processor while energy is measured.
        while True:
            ready = bool(select.select([pipe], [], [], CHECK_S)[0])
            read = os.read(pipe, 65536) if ready else b""
            if ready and not read:
                break
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                told = _event(line)
                if told is None:
                    continue
                watch.heard(told)
                if told["event"] == "failed":
                    reason = told["reason"]
                elif told["event"] == "full":
                    full = True
                else:
                    event(told)
            if not ready and process.poll() is not None:
                break  # what it started holds the pipe open
            if not taken and time.monotonic() - looked_s > LOOK_S:
                taken, looked_s = lost(), time.monotonic()
                if taken:
                    _kill(process)
            if stop.asked():  # the exception may have been swallowed on its way, by a library's own handler
                self.terminate()
            if given_up_s is None and watch.why_end() is not None:
                given_up_s = time.monotonic()
                process.terminate()
            ending_s = given_up_s if self._closed_s is None else self._closed_s
            if ending_s is not None and time.monotonic() - ending_s > GRACE_S:
                _kill(process)
        process.wait()
        killed = reason is None and process.returncode < 0
        outside = killed or given_up_s is not None or process.returncode == STOPPED
        return Ended(process.returncode, reason if watch.why is None else watch.why, full, outside, lost())

    def wait(self, limit_s: float) -> None:
        """Until those that run have ended, at most so long; from within a signal that interrupted `run`."""
        end_s = time.monotonic() + limit_s
        for process in list(self._running):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end_s - time.monotonic()))

    def terminate(self) -> None:
        """Ask those that run to save and end; none is started any more."""
        with self._lock:
            if self._closed_s is None:
                self._closed_s = time.monotonic()
                for process in self._running:
                    process.terminate()


def _event(line: bytes) -> dict[str, Any] | None:
    """What a line of a worker tells; None for half a line, of a process that was killed while it wrote."""
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) and "event" in told else None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """A worker, and what is of its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def kill_tree(pid: int, mark: str) -> None:
    """Kill a process that leads a session, and all that it started: those of its session, and wherever its mark is found.

    Args:
        mark: the value of `MARK` in its environment, which what it starts inherits.
    """
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.pid != os.getpid():
                process.kill()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # last: a worker that ends itself and its like goes with them


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
