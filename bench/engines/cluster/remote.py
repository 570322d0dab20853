"""What a job does: one run, or the last measuring. Pickled by submitit, and called in the job.

submitit asks a job to checkpoint by SIGUSR2, before its time is over and when it is preempted: the run is saved, and the job
queued again. SIGTERM, which submitit passes over, ends a job that somebody cancels: the run is saved, and that is all.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from greenprune.bench.engines.cluster.stored import EARLY, STOPPED, EndedJob, read_jobs, this_job, write_ended
from greenprune.bench.engines.cluster.waiting import awaited
from greenprune.bench.engines.engine import ENDED, Event
from greenprune.bench.engines.perform import perform
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened
from greenprune.bench.inference.job import JointJob
from greenprune.bench.run.process import GRACE_S, Workers
from greenprune.bench.run.side_by_side import is_due, measure_in_child
from greenprune.bench.run.stop import STARTED_S, Stopped
from greenprune.bench.run.task import Task
from greenprune.bench.text import listed

KILLED = "killed by signal 9"
AGAIN = 1
"""How often a run is gone on with at once after its process was killed from outside."""

MAIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from greenprune.bench.cli.main import main; "
    "sys.exit(main(sys.argv[2:]))"
)


class AsJob(ABC):
    """The base of what jobs do.

    Args:
        results: results/<suite>, as seen from every node.
        paths: where to import from.
        cwd: the working directory of the start.
    """

    def __init__(self, results: str, paths: list[str], cwd: str) -> None:
        self.results, self.paths, self.cwd = results, paths, cwd

    def __call__(self) -> None:
        sys.path[:] = self.paths
        os.chdir(self.cwd)
        write_ended(None, Path(self.results), this_job())
        signal.signal(signal.SIGTERM, _stop)
        try:
            ended = self.work()
        except KeyboardInterrupt as e:  # Stopped; or what measures was asked to end, and not this process
            ended = EndedJob(status=STOPPED, said=f"stopped by {str(e) or 'a signal'}; start it again to go on")
        except UserError as e:
            ended = EndedJob(status="failed", said=str(e))
        except Exception as e:
            write_ended(_broken_off(e), Path(self.results), this_job())
            raise
        write_ended(ended, Path(self.results), this_job())
        print(f"{ended.status}: {ended.said}", flush=True)
        if ended.status in ("failed", STOPPED, EARLY):
            raise SystemExit(1)

    @abstractmethod
    def work(self) -> EndedJob:
        """Do it, and say how it ended."""

    def checkpoint(self) -> Any:
        """Called by submitit in the main thread, in the middle of `work`."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class DoRun(AsJob):
    """One run.

    Args:
        task: a `Task` as JSON.
    """

    def __init__(self, task: str, results: str, paths: list[str], cwd: str) -> None:
        super().__init__(results, paths, cwd)
        self.task = task

    def work(self) -> EndedJob:
        task = Task.model_validate_json(self.task)
        results = Path(self.results)
        if left := awaited(task, results, read_jobs(results).runs):
            said = f"{listed(left)} did not end, and {task.key} needs to know how long it may train; start it again to go on"
            return EndedJob(status=EARLY, said=said)
        restarted = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"  # what failed then is not the end
        for number in range(1 + AGAIN):
            global _workers
            _workers = Workers(task.running)
            last: dict[str, Any] = {}

            def tell(event: Event, last: dict[str, Any] = last) -> None:
                if event.told["event"] == ENDED:
                    last.update(event.told)

            perform(task, _workers, tell, again=number > 0 or restarted)
            if KILLED not in last["said"]:
                break
        return EndedJob(status=last["status"], said=last["said"])

    def checkpoint(self) -> Any:
        if _workers is not None:
            _workers.terminate()
            _workers.wait(GRACE_S)
        return super().checkpoint()


_workers: Workers | None = None
"""Of this process: no part of what is pickled."""


class DoMeasure(AsJob):
    """The last job of a suite: all networks side by side, and the report.

    Args:
        measuring: a `JointJob` as JSON.
        limit_s: of the job, in seconds.
    """

    def __init__(self, measuring: str, limit_s: float, results: str, paths: list[str], cwd: str) -> None:
        super().__init__(results, paths, cwd)
        self.measuring, self.limit_s = measuring, limit_s

    def work(self) -> EndedJob:
        if not is_due(Path(self.results)):
            return EndedJob(status="done", said="nothing is left to measure")
        code = measure_in_child(JointJob.model_validate_json(self.measuring))
        report = [sys.executable, "-P", "-c", MAIN, json.dumps(sys.path), "report", self.results]
        subprocess.run(report, check=False)
        return EndedJob(status="failed" if code else "done", said="see its log" if code else "")

    def checkpoint(self) -> Any:
        """Raises UserError, in the middle of `work`, where its time is over: it begins anew, and would not fit again."""
        if is_time_limit(time.monotonic() - STARTED_S, self.limit_s):
            raise UserError(
                f"measuring side by side did not fit into slurm_time = {self.limit_s / 60:g} minutes; say a longer one in "
                "[measure] of --engine-config"
            )
        return super().checkpoint()


def is_time_limit(elapsed_s: float, limit_s: float) -> bool:
    """Whether a signal to checkpoint is that before the end of a job's time, and not of preemption; as submitit tells them
    apart."""
    return elapsed_s >= min(0.8 * limit_s, limit_s - 600.0)


def _broken_off(error: Exception) -> EndedJob:
    """How a job ended whose work raised `error`: submitit does so where it does not queue it again."""
    from submitit.core.utils import UncompletedJobError

    if isinstance(error, UncompletedJobError):
        return EndedJob(status=STOPPED, said="its time limits are used up (max_num_timeout); start it again to go on")
    return EndedJob(status="failed", said=f"{type(error).__name__}: {shortened(str(error), 300)}")


def _stop(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one does not disturb the saving
    raise Stopped(signal.Signals(number).name)
