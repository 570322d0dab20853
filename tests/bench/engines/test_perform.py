"""One run, where this process is: what is left of it when it fails."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from greenprune.bench.data.content import file_hash
from greenprune.bench.engines.perform import perform
from greenprune.bench.records.record import MODEL_FILE, write_record
from greenprune.bench.run.one import is_to_make
from greenprune.bench.run.process import Workers
from greenprune.bench.suite.entry import MethodEntry

from tests.bench.engines.jobs import both
from tests.plots.records import of_dense


def test_what_fails_when_it_is_made_again_leaves_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process leaves a network, and is killed."""
    stand_in = tmp_path / "python"
    stand_in.write_text(f'#!/bin/sh\ntouch "$(dirname "$6")/{MODEL_FILE}"\necho oh >&2\nkill -9 $$\n')
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    pilot, _ = both(tmp_path)
    settings = pilot.settings.model_copy(update={"method": MethodEntry(name="dense"), "budget": 1.0})
    task = pilot.model_copy(update={"settings": settings, "remake": True})
    path = write_record(of_dense(task.key, task.settings.model_dump(mode="json")), task.folder)
    before = path.read_bytes()
    told: list[Any] = []
    assert perform(task, Workers(), lambda event: told.append(event.told))
    assert (told[-1]["status"], told[-1]["said"]) == (
        "failed",
        "failed: killed by signal 9 (SIGKILL); its record of before is kept, and the last output is in output.log",
    )
    assert path.read_bytes() == before
    assert not (task.folder / MODEL_FILE).exists()  # the next --remake makes it again


def test_a_network_that_is_not_the_records_is_made_again(tmp_path: Path) -> None:
    """As where a remake was killed between the two."""
    pilot, _ = both(tmp_path)
    (tmp_path / MODEL_FILE).write_bytes(b"one")
    record = of_dense(
        pilot.key, pilot.settings.model_dump(mode="json"), files={MODEL_FILE: file_hash(tmp_path / MODEL_FILE)}
    )
    assert not is_to_make(record, tmp_path)
    (tmp_path / MODEL_FILE).write_bytes(b"another")
    assert is_to_make(record, tmp_path)
    assert not is_to_make(record.model_copy(update={"files": {}}), tmp_path)  # of which nobody knows
    (tmp_path / MODEL_FILE).unlink()
    assert is_to_make(record, tmp_path)
