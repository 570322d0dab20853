"""What jobs leave behind when they end, with a stand-in for submitit around them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from greenprune.bench.engines.cluster import remote
from greenprune.bench.engines.cluster.remote import AsJob, DoMeasure, DoRun
from greenprune.bench.engines.cluster.stored import EARLY, EndedJob, read_ended, write_ended
from greenprune.bench.engines.engine import ended
from greenprune.bench.inference.job import JointJob
from greenprune.bench.run.stop import Stopped
from greenprune.bench.run.task import Task

from tests.bench.engines.jobs import PILOT, WAITS, both, submitted


class UncompletedJobError(RuntimeError):
    """As submitit raises it within a job that it does not queue again."""


class DelayedSubmission:
    """What submitit queues again."""

    def __init__(self, function: object) -> None: ...


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """results/<suite>, where this process is the job 7."""
    for name in ("submitit", "submitit.core", "submitit.core.utils", "submitit.helpers"):
        module = ModuleType(name)
        module.__dict__.update(UncompletedJobError=UncompletedJobError, DelayedSubmission=DelayedSubmission)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.chdir(tmp_path)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    yield tmp_path
    for number, handler in before.items():
        signal.signal(number, handler)


def where(folder: Path) -> tuple[str, list[str], str]:
    """The last arguments of a job."""
    return str(folder), list(sys.path), os.getcwd()


class Raising(AsJob):
    """A job in whose middle something is raised."""

    def __init__(self, error: BaseException, folder: Path) -> None:
        super().__init__(*where(folder))
        self.error = error

    def work(self) -> EndedJob:
        raise self.error


@pytest.mark.parametrize(
    ("error", "raised", "status", "said"),
    [
        (KeyboardInterrupt(), SystemExit, "stopped", "stopped by a signal"),
        (Stopped("SIGTERM"), SystemExit, "stopped", "stopped by SIGTERM"),
        (
            UncompletedJobError("timed-out too many times"),
            UncompletedJobError,
            "stopped",
            "its time limits are used up",
        ),
        (ZeroDivisionError("division by zero"), ZeroDivisionError, "failed", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_job_says_how_it_ended_whatever_ends_it(
    folder: Path, error: BaseException, raised: type[BaseException], status: str, said: str
) -> None:
    with pytest.raises(raised):  # submitit keeps errors, too
        Raising(error, folder)()
    found = read_ended(folder, "7")
    assert found is not None
    assert found.status == status
    assert found.said.startswith(said)


def signalled(does: DoMeasure, monkeypatch: pytest.MonkeyPatch, elapsed_s: float) -> None:
    """Do it, and have submitit ask it to checkpoint while it measures, so long after it began."""

    def measure(job: JointJob) -> int:
        os.kill(os.getpid(), signal.SIGUSR2)
        time.sleep(10)
        return 0

    def again(number: int, frame: object) -> None:
        does.checkpoint()
        raise SystemExit(-1)  # as submitit, after it has queued the job again

    monkeypatch.setattr(remote, "is_due", lambda folder: True)
    monkeypatch.setattr(remote, "measure_in_child", measure)
    monkeypatch.setattr(remote, "STARTED_S", time.monotonic() - elapsed_s)
    signal.signal(signal.SIGUSR2, again)
    with pytest.raises(SystemExit):
        does()


def test_measuring_that_does_not_fit_into_its_time_is_not_begun_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    does = DoMeasure(JointJob(folder=str(folder), command="").model_dump_json(), 7200.0, *where(folder))
    signalled(does, monkeypatch, elapsed_s=600.0)
    assert read_ended(folder, "7") is None  # preempted: it is queued again
    signalled(does, monkeypatch, elapsed_s=7100.0)
    found = read_ended(folder, "7")
    assert found is not None
    assert found.status == "failed"
    assert "did not fit into slurm_time = 120 minutes; say a longer one in [measure]" in found.said


def test_a_run_whose_pilot_is_gone_without_a_word_leaves_no_record(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def perform(task: Task, workers: object, tell: Any, again: bool) -> None:
        tell(ended(task.key, "failed", "its pilot has no result"))

    monkeypatch.setattr(remote, "perform", perform)
    submitted(folder, pilot="6", waits="7")
    does = DoRun(both(folder)[1].model_dump_json(), *where(folder))
    with pytest.raises(SystemExit):
        does()
    found = read_ended(folder, "7")
    assert found is not None
    assert found.status == EARLY
    assert found.said.startswith(f"{PILOT} did not end, and {WAITS} needs to know")
    write_ended(EndedJob(status="failed"), folder, "6")  # it did end, well or not
    with pytest.raises(SystemExit):
        does()
    assert read_ended(folder, "7") == EndedJob(status="failed", said="its pilot has no result")


def test_a_second_signal_does_not_disturb_the_saving() -> None:
    before = signal.signal(signal.SIGTERM, remote._stop)
    try:
        with pytest.raises(Stopped, match="SIGTERM"):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
