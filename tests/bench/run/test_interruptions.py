"""Runs that are interrupted from start to end, what hangs or takes too long, and what a run has started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from greenprune.bench.errors import UserError, is_full
from greenprune.bench.run import process as processes
from greenprune.bench.run import stop
from greenprune.bench.run.parallel import in_parallel
from greenprune.bench.run.process import Workers
from greenprune.bench.run.shares import ALONE, Share
from greenprune.bench.run.stop import Stopped, seconds_of, stoppable
from greenprune.bench.run.watch import Watch
from greenprune.bench.suite.recipe import Running

from tests.bench.run.kills import differences, start, wait_for_training
from tests.conftest import SUITE, is_running, wait_until

RUN = """\
[run]
checkpoint_minutes = 0.005
"""


def worker(folder: Path, script: str) -> Any:
    """A job, and in `sys.executable` a stand-in that does `script` in its place."""
    stand_in = folder / "python"
    stand_in.write_text(f"#!/bin/sh\n{script}\n")
    stand_in.chmod(0o755)
    job = SimpleNamespace(folder=str(folder), key="run", share=ALONE, model_dump_json=lambda: "{}")
    job.model_copy = lambda update: job
    return job


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(processes, "CHECK_S", 0.05)
    return tmp_path


# Suites


def test_a_suite_killed_in_its_trainings_equals_the_undisturbed_one(tmp_path: Path) -> None:
    """Asked to stop, then killed; `python -m tests.bench.run.kills` does it with all methods and 20 kills."""
    head, _, methods = SUITE.partition("[[methods]]")
    suite = tmp_path / "tiny.toml"
    magnitude = '[[methods]]\nname = "magnitude"\n'
    measurement = "[measurement]" + methods.partition("[measurement]")[2]
    head = head.replace("tiny_networks:tiny", "tests.bench.run.kills:small").replace("epochs = 2", "epochs = 4")
    suite.write_text("\n".join((head, RUN, magnitude, measurement)))
    undisturbed = start(suite, tmp_path / "undisturbed")
    launcher = start(suite, tmp_path / "disturbed")
    for number in (signal.SIGTERM, signal.SIGKILL):
        assert wait_for_training(tmp_path / "disturbed", launcher)
        launcher.send_signal(number)
        launcher.wait(timeout=120)
        launcher = start(suite, tmp_path / "disturbed")
    assert launcher.wait(timeout=300) == 0
    assert undisturbed.wait(timeout=300) == 0
    assert differences(tmp_path / "disturbed/tiny", tmp_path / "undisturbed/tiny") == []
    (path,) = (tmp_path / "disturbed/tiny").glob("*/record.json")
    assert json.loads(path.read_text())["interruptions"] == 2
    assert "stopped (SIGTERM); what was finished is kept, start it again to go on" in (tmp_path / "log").read_text()


def test_ctrl_c_in_the_first_moments_is_answered_with_a_sentence(tmp_path: Path) -> None:
    code = "import signal, greenprune.__main__ as m, os; os.kill(os.getpid(), signal.SIGINT); m.main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "greenprune: interrupted before anything was started\n"


# Workers that are given up


def test_a_worker_that_does_nothing_is_ended(stand_in: Path) -> None:
    ended = Workers(Running(heartbeat_minutes=0.01)).run(worker(stand_in, "sleep 600"), lambda told: None)
    assert ended.reason is not None
    assert ended.reason.startswith("no sign of life for 0.01 min")
    assert ended.outside


def test_a_worker_that_is_silent_and_busy_is_not_ended() -> None:
    watch = Watch(os.getpid(), Running(heartbeat_minutes=0.01))
    until_s = time.monotonic() + 1.5
    while time.monotonic() < until_s:
        sum(range(10**5))
        assert watch.why_end() is None
    watch.heard({"event": "progress"})  # from now on steps count
    until_s = time.monotonic() + 0.9
    while time.monotonic() < until_s:
        sum(range(10**5))
    assert watch.why_end() is not None


def test_a_worker_that_takes_too_long_is_ended(stand_in: Path) -> None:
    script = 'while true; do echo \'{"event": "progress"}\'; sleep 0.05; done'
    ended = Workers(Running(timeout_minutes=0.01)).run(worker(stand_in, script), lambda told: None)
    assert ended.reason is not None
    assert ended.reason.startswith("not finished after 0.01 min (run.timeout_minutes)")


def test_one_that_ignores_being_asked_is_killed(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE_S", 0.2)
    script = "trap '' TERM; while true; do sleep 0.1; done"
    ended = Workers(Running(timeout_minutes=0.01)).run(worker(stand_in, script), lambda told: None)
    assert ended.code == -signal.SIGKILL


@pytest.mark.parametrize("apart", ["", "setsid "])
@pytest.mark.parametrize("end", ["exit 0", "kill -9 $$", "sleep 600"])
def test_what_a_worker_started_ends_with_it(stand_in: Path, apart: str, end: str) -> None:
    pid = stand_in / "pid"
    script = f"{apart}sleep 500 & echo $! > {pid}; {end}"
    Workers(Running(heartbeat_minutes=0.01)).run(worker(stand_in, script), lambda told: None)
    started = int(pid.read_text())
    assert wait_until(lambda: not is_running(started), limit_s=10)


def test_a_worker_whose_run_somebody_took_over_is_killed_and_saves_nothing(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LOOK_S", 0.1)
    script = f"trap 'touch {stand_in}/saved; exit 75' TERM; touch {stand_in}/ready; while true; do sleep 0.05; done"
    ended = Workers().run(worker(stand_in, script), lambda told: None, (stand_in / "ready").exists)
    assert (ended.code, ended.lost) == (-signal.SIGKILL, True)
    assert not (stand_in / "saved").exists()
    assert (stand_in / processes.JOB_FILE).exists()  # by now it is of who has the run


def test_a_worker_that_has_ended_well_is_not_torn_down() -> None:
    stub = (
        "import atexit, os, sys, types\natexit.register(os.abort)\n"
        "sys.modules['greenprune.bench.run.worker'] = types.SimpleNamespace(main=lambda argv: print('well') or 3)\n"
    )
    command = [sys.executable, "-c", stub + processes.WORKER, json.dumps(sys.path), "[]", "job.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "well\n")


def test_a_launcher_that_stops_asks_its_workers_and_starts_none(stand_in: Path) -> None:
    workers = Workers()
    script = f"trap 'touch {stand_in}/saved; exit 75' TERM; touch {stand_in}/ready; while true; do sleep 0.05; done"
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            workers.run(worker(stand_in, script), lambda told: None)
        except Stopped as e:
            outcome.append(e)

    thread = threading.Thread(target=run)
    thread.start()
    assert wait_until((stand_in / "ready").exists, limit_s=20)
    workers.terminate()
    thread.join(timeout=20)
    assert outcome
    assert (stand_in / "saved").exists()
    with pytest.raises(Stopped):
        workers.run(worker(stand_in, "exit 0"), lambda told: None)
    assert not [child for child in psutil.Process().children() if "sleep" in child.name()]


def test_a_launcher_that_was_asked_stops_wherever_the_exception_went(stand_in: Path) -> None:
    script = f"trap 'exit 75' TERM; touch {stand_in}/ready; while true; do sleep 0.05; done"

    def swallow() -> None:
        assert wait_until((stand_in / "ready").exists, limit_s=20)
        stop._asked.append("SIGTERM")

    threading.Thread(target=swallow).start()
    with pytest.raises(Stopped, match="SIGTERM"), stoppable():
        Workers().run(worker(stand_in, script), lambda told: None)
    assert stop.asked() is None


def test_what_fails_in_one_of_several_stops_the_others() -> None:
    workers = Workers()

    def one(each: int, share: Share) -> int:
        if each == 1:
            raise UserError("no space")
        assert wait_until(lambda: workers._closed_s is not None, limit_s=20)
        return each

    with pytest.raises(UserError, match="no space"):
        in_parallel(one, [0, 1, 2], [Share(cores=(0,)), Share(cores=(1,))], workers)


def test_a_worker_on_a_full_disk_says_so(stand_in: Path) -> None:
    ended = Workers().run(worker(stand_in, 'echo \'{"event": "full", "reason": "x"}\'; exit 1'), lambda told: None)
    assert ended.full


# Signals and time limits


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP"])
def test_a_signal_stops_the_suite_once(name: str) -> None:
    number = getattr(signal, name)
    found = signal.signal(number, signal.SIG_DFL)  # under nohup SIGHUP is ignored, and stays so
    try:
        before = signal.getsignal(signal.SIGTERM)
        with stoppable():
            with pytest.raises(Stopped, match=name):
                signal.raise_signal(number)
            signal.raise_signal(signal.SIGTERM)  # a second one does not disturb the saving
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(number, found)


def test_a_signal_that_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_time_limit_stops_the_suite_before_it_is_over() -> None:
    started_s = time.monotonic()
    with pytest.raises(Stopped, match="time limit"), stoppable(2.0):
        time.sleep(30)
    assert time.monotonic() - started_s < 30


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("10:30", 630), ("1:00:00", 3600), ("1-12", 129600), ("2-01:30", 178200), ("1-00:00:01", 86401)],
)
def test_time_limits_are_read_as_slurm_writes_them(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["0", "-5", "1:2:3:4", "soon", ""])
def test_a_time_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--time-limit .*: is no time; allowed: minutes"):
        seconds_of(text)


def test_a_full_disk_is_recognised_behind_other_errors() -> None:
    behind = RuntimeError("could not write")
    behind.__cause__ = OSError(28, "No space left on device")
    assert is_full(behind)
    assert not is_full(OSError(13, "Permission denied"))
