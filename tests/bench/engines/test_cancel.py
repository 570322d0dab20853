"""`greenprune cancel`: each engine ends its own, and what one cannot end keeps no other from it."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.engines.cluster import queue
from greenprune.bench.engines.cluster.stored import EndedJob, read_ended, write_ended
from greenprune.bench.records import lock as locks
from greenprune.bench.records.folder import LOCK_FILE
from greenprune.bench.records.lock import Holder

from tests.bench.engines.jobs import PENDING, PILOT, WAITS, submitted

OTHER = os.getppid()


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Processes that were asked to stop, and go on."""
    found: list[int] = []

    def kill(pid: int, number: int) -> None:
        assert number == signal.SIGTERM
        found.append(pid)

    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(queue, "queued", lambda: None)
    return found


def held(folder: Path) -> None:
    """By a process of this machine."""
    folder.mkdir(exist_ok=True)
    holder = Holder(host="here", machine=locks.machine(), pid=OTHER, began=locks._began(OTHER) or "", token="ab")
    (folder / LOCK_FILE).write_text(holder.model_dump_json())


def test_a_job_that_slurm_has_cancelled_gets_no_signal_of_ours(
    tmp_path: Path, killed: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cancelled: list[str] = []

    def cancel(jobs: Sequence[str]) -> bool:
        cancelled.extend(jobs)
        return True

    monkeypatch.setattr(queue, "queued", lambda: {"1": PENDING, "3": PENDING})
    monkeypatch.setattr(queue, "cancel", cancel)
    submitted(tmp_path, pilot="1", waits="2", measuring="3")
    held(tmp_path / PILOT)  # on the job's own node
    held(tmp_path)
    assert main(["cancel", str(tmp_path)]) == 0
    assert (cancelled, killed) == (["1", "3"], [])
    assert f"{PILOT}: job 1 is cancelled\nmeasuring: job 3 is cancelled\n" in capsys.readouterr().out
    assert read_ended(tmp_path, "1") is not None


def test_jobs_that_are_over_are_no_matter_where_slurm_is_not(tmp_path: Path, killed: list[int]) -> None:
    submitted(tmp_path, pilot="1")
    write_ended(EndedJob(status="done"), tmp_path, "1")
    held(tmp_path / WAITS)
    assert main(["cancel", str(tmp_path)]) == 0
    assert killed == [OTHER]


def test_runs_here_are_ended_whether_or_not_slurm_answers(
    tmp_path: Path, killed: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    submitted(tmp_path, pilot="1_0")
    held(tmp_path / WAITS)
    assert main(["cancel", str(tmp_path)]) == 2
    assert killed == [OTHER]
    assert "Slurm does not answer here (squeue), and its jobs 1 may go on" in capsys.readouterr().err


def test_a_process_is_asked_once_whatever_it_does(
    tmp_path: Path, killed: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    held(tmp_path / PILOT)
    held(tmp_path / WAITS)
    held(tmp_path)
    assert main(["cancel", str(tmp_path)]) == 0
    assert killed == [OTHER]
    out = capsys.readouterr().out
    for key in (PILOT, WAITS, "measuring"):
        assert f"{key}: process {OTHER} is asked to save it and stop" in out


def test_a_run_of_another_user_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def kill(pid: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "kill", kill)
    held(tmp_path / PILOT)
    assert main(["cancel", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line
        == f"greenprune: {tmp_path}: {PILOT} (process {OTHER}) cannot be ended by this user; whoever started it can"
    )
