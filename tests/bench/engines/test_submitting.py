"""Submitting to a Slurm that is not there: what is asked of it, and what is made of its answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from greenprune.bench.engines import slurm
from greenprune.bench.engines.cluster import queue
from greenprune.bench.engines.cluster.options import EngineOptions
from greenprune.bench.engines.cluster.remote import AsJob, DoRun
from greenprune.bench.engines.cluster.stored import EARLY, FOLDER, EndedJob, Jobs, read_jobs, write_ended, write_jobs
from greenprune.bench.engines.engine import ENDED, Event, Place
from greenprune.bench.engines.slurm import MOST_LOST, Slurm
from greenprune.bench.inference.job import JointJob
from greenprune.bench.records.folder import here, running
from greenprune.bench.run.task import Task

from tests.bench.engines.jobs import PILOT, WAITS, both


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the engine says. Slurm answers that no job is there any more; nothing is waited for."""
    monkeypatch.setattr(queue, "queued", dict)
    monkeypatch.setattr(queue, "end_of", lambda job: "NODE_FAIL")
    monkeypatch.setattr(slurm.code, "keep", lambda folder: folder / "code")
    monkeypatch.setattr(slurm, "_rest", lambda wait_s: None)
    return []


def engine(said: list[str]) -> Slurm:
    return slurm.make(EngineOptions(), Place(say=said.append))


def test_jobs_that_come_to_nothing_are_submitted_again_and_not_for_ever(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    ends: dict[str, str] = {}

    def sbatch(self: Slurm, does: Sequence[AsJob], *others: object) -> list[str]:
        """The pilot's job goes without a word, and what waits for it says so."""
        numbers = []
        for each in does:
            assert isinstance(each, DoRun)
            sent.append(Task.model_validate_json(each.task).key)
            numbers.append(str(len(sent)))
            if sent[-1] == WAITS:
                write_ended(EndedJob(status=EARLY, said="too early"), tmp_path, numbers[-1])
        return numbers

    def tell(event: Event) -> None:
        if event.told["event"] == ENDED:
            ends[event.key] = event.told["status"]

    monkeypatch.setattr(Slurm, "_sbatch", sbatch)
    engine(said).submit(both(tmp_path), tell)
    assert ends == {PILOT: "failed", WAITS: "failed"}
    assert Counter(sent) == {PILOT: 1 + MOST_LOST, WAITS: 1 + MOST_LOST}
    assert read_jobs(tmp_path).runs.keys() == {PILOT, WAITS}


@pytest.mark.parametrize(
    ("ended", "code", "told"),
    [
        (EndedJob(status="done"), 0, []),
        (EndedJob(status="failed", said="did not fit"), 1, ["job 9: did not fit"]),
    ],
)
def test_measuring_where_no_run_was_submitted_by_slurm(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch, ended: EndedJob, code: int, told: list[str]
) -> None:
    def sbatch(*arguments: object) -> list[str]:
        assert (running(tmp_path), here(tmp_path)) == ({}, [])  # who submits does no run
        write_ended(ended, tmp_path, "9")
        return ["9"]

    monkeypatch.setattr(Slurm, "_sbatch", sbatch)
    assert engine(said).measure(JointJob(folder=str(tmp_path), command="")) == code
    assert said == told
    assert read_jobs(tmp_path).measuring == "9"


def test_an_older_job_is_not_taken_for_this_one_where_slurm_does_not_answer(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FOLDER).mkdir()
    write_jobs(Jobs(measuring="9"), tmp_path)
    write_ended(EndedJob(status="done"), tmp_path, "9")
    monkeypatch.setattr(queue, "queued", lambda: None)
    assert engine(said).measure(JointJob(folder=str(tmp_path), command="")) == 1
    assert said == ["not measured: Slurm does not answer on this machine (squeue); start again where it does"]


def test_its_own_job_counts_though_slurm_answers_no_more(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, numbers = JointJob(folder=str(tmp_path), command=""), iter(["1", "2", "9"])
    monkeypatch.setattr(Slurm, "_sbatch", lambda self, does, *others: [next(numbers) for _ in does])
    slurms = engine(said)
    slurms._submit(tmp_path, both(tmp_path), job)
    write_ended(EndedJob(status="done"), tmp_path, "9")
    monkeypatch.setattr(queue, "queued", lambda: None)
    assert slurms.measure(job) == 0
