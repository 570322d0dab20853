"""Two starts of one suite at once: nothing is done twice, nothing is lost, and both know in the end what came out."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from greenprune.bench.data.data import Dataset
from greenprune.bench.data.load import load
from greenprune.bench.engines import perform
from greenprune.bench.engines.engine import Place
from greenprune.bench.engines.launch import Outcome, launch
from greenprune.bench.engines.local import Local
from greenprune.bench.engines.progress import PROGRESS_FILE
from greenprune.bench.errors import UserError
from greenprune.bench.plan.plan import Run, plan
from greenprune.bench.records.folder import LOCK_FILE
from greenprune.bench.records.identity import Identity
from greenprune.bench.records.lock import Holder
from greenprune.bench.records.record import write_record
from greenprune.bench.run import process as processes
from greenprune.bench.run.process import Workers
from greenprune.bench.run.shares import Share
from greenprune.bench.run.task import Task
from greenprune.bench.suite.file import load_suite
from greenprune.bench.training.files import CHECKPOINT_FILE

from tests.conftest import SUITE, wait_until
from tests.plots.records import of_dense

KEY = "dense-1-s0"
ALONE = SUITE.replace('[[methods]]\nname = "gated"\n', "").replace('[[methods]]\nname = "magnitude"\n', "")


class Telling:
    """A display that keeps what it is told."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.events: list[dict[str, Any]] = []

    def start(self, run: Run, number: int, total: int) -> None:
        self.started.append(run.key)

    def event(self, run: Run, event: dict[str, Any]) -> None:
        self.events.append(event)

    def finish(self, run: Run, said: str) -> None: ...


@pytest.fixture
def stand_in(tmp_path: Path, at_work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The process of a run writes its key to `attempts` and fails, after the file `go` is there."""
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\ntrap "touch {tmp_path}/saved" TERM\ngrep -o \'"key":"[^"]*"\' "$6" >>{tmp_path}/attempts\n'
        f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done\nexit 7\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(processes, "CHECK_S", 0.02)
    monkeypatch.setattr(processes, "LOOK_S", 0.02)
    monkeypatch.setattr(perform, "POLL_S", 0.02)
    return tmp_path


def start(suite: Path, folder: Path, data: Mapping[str, Dataset], display: Telling, jobs: int = 1) -> Outcome:
    runs = plan(load_suite(str(suite)), data, "cpu")
    engine = Local(Place(shares=(Share(),) * jobs))
    return launch("tiny", runs, folder, engine=engine, data_root=None, command="", display=display, data=data)


def test_two_starts_share_the_runs(stand_in: Path) -> None:
    suite = stand_in / "tiny.toml"
    suite.write_text(SUITE.replace("seeds = [0]", "seeds = [0, 1]"))
    data, folder = {"digits": load("digits")}, stand_in / "results"
    outcomes: list[Outcome] = []
    displays = [Telling(), Telling()]
    threads = [threading.Thread(target=lambda d=d: outcomes.append(start(suite, folder, data, d))) for d in displays]
    threads[0].start()
    assert wait_until(lambda: (stand_in / "attempts").exists())
    threads[1].start()
    assert wait_until(lambda: len((stand_in / "attempts").read_text().splitlines()) == 2)  # each does one
    (stand_in / "go").touch()
    for thread in threads:
        thread.join()
    keys = {f"{name}-s{seed}" for name in ("dense-1", "gated-0.5", "magnitude-0.5") for seed in (0, 1)}
    attempts = Counter(json.loads(f"{{{line}}}")["key"] for line in (stand_in / "attempts").read_text().splitlines())
    assert attempts == Counter(keys)
    assert [set(outcome.failed) for outcome in outcomes] == [keys, keys]  # each says how all of them ended
    assert list(folder.glob("*/.*")) == []


def test_a_start_of_another_experiment_is_refused_while_the_first_has_no_record_yet(stand_in: Path) -> None:
    suite, other = stand_in / "tiny.toml", stand_in / "other.toml"
    suite.write_text(SUITE)
    other.write_text(SUITE.replace("epochs = 2", "epochs = 3"))
    data, folder = {"digits": load("digits")}, stand_in / "results"
    first = threading.Thread(target=start, args=(suite, folder, data, Telling()))
    first.start()
    assert wait_until(lambda: (stand_in / "attempts").exists())
    with pytest.raises(UserError, match=r"is doing, or has done, another experiment here \(training\.epochs: "):
        start(other, folder, data, Telling())
    (stand_in / "go").touch()
    first.join()
    assert len((stand_in / "attempts").read_text().splitlines()) == 3


def held_elsewhere(folder: Path) -> Path:
    """The lock of a run, of another machine that is alive."""
    lock = folder / LOCK_FILE
    lock.write_text(Holder(host="node7", machine="another", pid=1, began="5", token="ab").model_dump_json())
    return lock


def done(suite: Path, folder: Path, data: Mapping[str, Dataset], identity: Identity) -> None:
    """Store the record of the one run of `suite`."""
    (run,) = plan(load_suite(str(suite)), data, "cpu")
    write_record(of_dense(KEY, run.settings.model_dump(mode="json"), identity=identity), folder / KEY)


def test_a_run_that_another_start_took_over_is_theirs(stand_in: Path) -> None:
    suite = stand_in / "tiny.toml"
    suite.write_text(ALONE)
    data, folder, display = {"digits": load("digits")}, stand_in / "results", Telling()
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(start(suite, folder, data, display)))
    thread.start()
    assert wait_until(lambda: (stand_in / "attempts").exists())
    theirs = [folder / KEY / name for name in (processes.JOB_FILE, PROGRESS_FILE)]
    for path in theirs:
        path.write_text("theirs")
    lock = held_elsewhere(folder / KEY)
    assert wait_until(lambda: any(told["event"] == "held" for told in display.events) or not thread.is_alive())
    assert not (folder / KEY / "record.json").exists()
    assert not (stand_in / "saved").exists()
    assert [path.read_text() for path in theirs] == ["theirs"] * 2
    done(suite, folder, data, Identity())
    stored = (folder / KEY / "record.json").read_bytes()
    lock.unlink()
    thread.join()
    assert outcomes == [Outcome(finished=(), failed=(), skipped=(KEY,), without_network=(KEY,))]
    assert (folder / KEY / "record.json").read_bytes() == stored


def test_what_another_start_makes_anew_is_not_cleared(stand_in: Path) -> None:
    """By `--remake`, which trains a run whose record is complete."""
    suite = stand_in / "tiny.toml"
    suite.write_text(ALONE)
    data, folder = {"digits": load("digits")}, stand_in / "results"
    tasks: list[Task] = []
    engine: Any = SimpleNamespace(elsewhere=False, submit=lambda found, *_: tasks.extend(found))
    runs = plan(load_suite(str(suite)), data, "cpu")
    launch("tiny", runs, folder, engine=engine, data_root=None, command="", display=Telling(), data=data)
    (folder / KEY).mkdir()
    assert tasks[0].identity is not None
    done(suite, folder, data, tasks[0].identity)
    checkpoint = folder / KEY / CHECKPOINT_FILE
    checkpoint.touch()
    lock = held_elsewhere(folder / KEY)
    for there in (True, False):
        assert start(suite, folder, data, Telling()).skipped == (KEY,)
        assert perform.perform(tasks[0], Workers(), lambda event: None)
        assert checkpoint.exists() == there
        lock.unlink(missing_ok=True)
    assert list((folder / KEY).glob(".*")) == []
