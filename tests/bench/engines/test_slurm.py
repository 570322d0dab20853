"""Runs as jobs of a real Slurm, that of `.ci/slurm`; `python -m tests.bench.engines.interruptions` does more of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.engines.cluster import queue
from greenprune.bench.engines.cluster.stored import read_jobs
from greenprune.bench.records.joint import joint_files, read_joint
from greenprune.bench.records.load import read_record

from tests.bench.engines.interruptions import INTERRUPT, KEY, Place, interrupted
from tests.bench.run.kills import differences
from tests.conftest import wait_until

KINDS = ("requeue", "preempt", "job", "cancel")


@pytest.fixture(scope="module")
def slurm() -> None:
    """Skips where there is none that may be used for tests."""
    if "SLURM_CONF" not in os.environ or shutil.which("sbatch") is None or queue.queued() is None:
        pytest.skip("there is no Slurm for tests here: start one with .ci/slurm up DIR, as root, and set SLURM_CONF")


@pytest.fixture(scope="module")
def place(slurm: None, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The suite by Slurm, interrupted in every way; and by `local`."""
    place = Place(tmp_path_factory.mktemp("slurm"))
    local = place.start("--skip-measure", out="local")
    assert interrupted(place, KINDS) == 0, (place.folder / "log").read_text()
    assert local.wait(240) == 0, (place.folder / "log").read_text()
    return place


def test_interrupted_jobs_go_on_and_end_as_by_local_bit_for_bit(place: Place) -> None:
    assert differences(place.results, place.folder / "local" / "slow") == []
    record = read_record(place.results / KEY / "record.json")
    assert record.interruptions == len(INTERRUPT.intersection(KINDS))


def test_accounting_is_not_needed(place: Place) -> None:
    assert subprocess.run(["sacct"], capture_output=True, check=False).returncode != 0


def test_the_last_job_measured_side_by_side_alone_on_its_node(place: Place) -> None:
    (path,) = joint_files(place.results)
    joint = read_joint(place.results, path.name)
    assert joint is not None
    assert joint.complete
    job = read_jobs(place.results).measuring
    assert job is not None

    def shown() -> str:
        return subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True).stdout

    assert wait_until(lambda: "JobState=COMPLETED" in shown(), 60), shown()
    assert "OverSubscribe=NO" in shown()
    assert (place.results / "report.html").exists()


def test_only_what_is_the_jobs_own_is_counted(place: Place) -> None:
    """A job of one core on a node of more; `tests/bench/energy/node/test_shared_node.py` has the node's own sensors."""
    if (os.cpu_count() or 1) == 1:
        pytest.skip("there is one core here, and so a job has the whole node")
    record = read_record(place.results / KEY / "record.json")
    assert {row["source"] for row in record.energy_sources if row["available"]} == {"cpu", "ram"}


def test_the_code_is_kept_beside_the_results(place: Place) -> None:
    (code,) = (place.results / "slurm").glob("code-*")
    assert (code / "slow_networks.py").read_text() == (place.folder / "slow_networks.py").read_text()
    assert (code / "greenprune/bench/engines/slurm.py").is_file()
    assert not (code / "torch").exists()


def test_the_logs_tell_how_each_job_ended(place: Place) -> None:
    log = (place.folder / "log").read_text()
    assert f"{place.results.relative_to(place.folder) / KEY} was stopped; start again to go on" in log


def test_queued_jobs_are_shown_found_again_and_cancelled(
    slurm: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a start that was closed: jobs that wait for a time that does not come."""
    place = Place(tmp_path)
    with (tmp_path / "cluster.toml").open("a") as config:
        config.write('slurm_additional_parameters = { begin = "now+1hour" }\n')
    first = place.by_slurm()
    assert wait_until(lambda: first.poll() is not None or read_jobs(place.results).measuring is not None, 120)
    first.terminate()
    assert first.wait(60) == 130
    jobs = read_jobs(place.results)
    assert len({job.partition("_")[0] for job in jobs.runs.values()}) == 1  # one array
    assert main(["status", str(place.results)]) == 0
    out = capsys.readouterr().out
    assert "2 queued" in out
    assert f"measuring side by side: job {jobs.measuring}: pending" in out
    said = tmp_path / "log"
    before = said.read_text()  # the first start may have been ended before it told of its jobs
    second = place.by_slurm()
    assert wait_until(lambda: "go on without it" in said.read_text()[len(before) :] or second.poll() is not None, 120)
    assert read_jobs(place.results) == jobs  # found, and not submitted again
    assert main(["cancel", str(place.results)]) == 0
    assert f"{KEY}: job {jobs.runs[KEY]} is cancelled" in capsys.readouterr().out
    assert second.wait(60) == 1
    assert not set(jobs.runs.values()) & set(queue.queued() or {})
