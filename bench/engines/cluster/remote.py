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
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from greenprune.bench.engines.cluster.stored import EndedJob, this_job, write_ended
from greenprune.bench.engines.engine import ENDED, Event
from greenprune.bench.engines.perform import perform
from greenprune.bench.errors import UserError
from greenprune.bench.inference.job import JointJob
from greenprune.bench.run.process import GRACE_S, Workers
from greenprune.bench.run.side_by_side import is_due, measure_in_child
from greenprune.bench.run.stop import Stopped
from greenprune.bench.run.task import Task

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
        except Stopped as e:
            ended = EndedJob(status="stopped", said=f"stopped by {e}; start it again to go on")
        except UserError as e:
            ended = EndedJob(status="failed", said=str(e))
        write_ended(ended, Path(self.results), this_job())
        print(f"{ended.status}: {ended.said}", flush=True)
        if ended.status in ("failed", "stopped"):
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
    """

    def __init__(self, measuring: str, results: str, paths: list[str], cwd: str) -> None:
        super().__init__(results, paths, cwd)
        self.measuring = measuring

    def work(self) -> EndedJob:
        if not is_due(Path(self.results)):
            return EndedJob(status="done", said="nothing is left to measure")
        code = measure_in_child(JointJob.model_validate_json(self.measuring))
        report = [sys.executable, "-P", "-c", MAIN, json.dumps(sys.path), "report", self.results]
        subprocess.run(report, check=False)
        return EndedJob(status="failed" if code else "done", said="see its log" if code else "")


def _stop(number: int, frame: object) -> None:
    raise Stopped(signal.Signals(number).name)
