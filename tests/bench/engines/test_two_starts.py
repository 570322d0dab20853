"""Two starts of one suite at once: nothing is done twice, nothing is lost, and both know in the end what came out."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from greenprune.bench.data.data import Dataset
from greenprune.bench.data.load import load
from greenprune.bench.engines import perform
from greenprune.bench.engines.engine import Place
from greenprune.bench.engines.launch import Outcome, launch
from greenprune.bench.engines.local import Local
from greenprune.bench.errors import UserError
from greenprune.bench.plan.plan import Run, plan
from greenprune.bench.run import process as processes
from greenprune.bench.run.shares import Share
from greenprune.bench.suite.file import load_suite

from tests.conftest import SUITE, wait_until


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
        f'#!/bin/sh\ngrep -o \'"key":"[^"]*"\' "$6" >>{tmp_path}/attempts\n'
        f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done\nexit 7\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(processes, "CHECK_S", 0.02)
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
