"""A training tells when no step is due, so that a launcher takes a long evaluation for no training that hangs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from greenprune.bench.data.load import load
from greenprune.bench.plan.plan import plan
from greenprune.bench.run.job import Job
from greenprune.bench.run.trial import trial
from greenprune.bench.run.watch import Watch
from greenprune.bench.suite.entry import MethodEntry
from greenprune.bench.suite.file import load_suite
from greenprune.bench.suite.recipe import Running
from greenprune.bench.training import loop
from greenprune.methods.dense import Dense


def test_whoever_watches_waits_for_steps_alone(at_work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch, waited = Watch(os.getpid(), Running()), []

    def noted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            waited.append((name, watch._training))
            return function(*arguments)

        return called

    monkeypatch.setattr(loop, "evaluate", noted("evaluate", loop.evaluate))
    for name in ("after_step", "settle", "finish"):
        monkeypatch.setattr(Dense, name, noted(name, getattr(Dense, name)))
    suite = load_suite("tiny.toml").model_copy(update={"methods": (MethodEntry(name="dense"),)})
    (run,) = plan(suite, {"digits": load("digits")}, "cpu")
    job = Job(suite="", key="", settings=run.settings, data_root=None, folder=str(tmp_path), command="", trial=True)
    watch.heard({"event": "progress"})
    trial(job, lambda event, **values: watch.heard({"event": event, **values}))
    assert [each for each in waited if each[0] != "after_step"] == [
        ("evaluate", False), ("settle", False), ("evaluate", False), ("finish", False),
    ]  # fmt: skip
    assert ("after_step", True) in waited  # where steps count
