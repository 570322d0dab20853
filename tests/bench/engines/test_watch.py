"""What a start makes of how jobs ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from greenprune.bench.engines.cluster import queue
from greenprune.bench.engines.cluster.queue import Queued
from greenprune.bench.engines.cluster.stored import EARLY, EndedJob, read_ended, write_ended
from greenprune.bench.engines.cluster.watch import SURE, Watch
from greenprune.bench.engines.engine import ENDED, Event
from greenprune.bench.records.record import MODEL_FILE

from tests.bench.engines.jobs import PENDING, PILOT, WAITS, both, submitted


class Start:
    """One that watches both runs."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, patch
        self.ended: dict[str, str] = {}
        self.watch = Watch(folder, both(folder), self._tell)

    def _tell(self, event: Event) -> None:
        if event.told["event"] == ENDED:
            self.ended[event.key] = event.told["status"]

    def looks(self, there: Mapping[str, Queued], times: int = 1, end: str = "NODE_FAIL") -> list[str]:
        """Keys of what needs another job, by the last of these looks."""
        self._patch.setattr(queue, "queued", lambda: dict(there))
        self._patch.setattr(queue, "end_of", lambda job: end)
        gone: list[str] = []
        for _ in range(times):
            gone = [task.key for task in self.watch.look()]
        return gone


@pytest.fixture
def early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """The pilot's job has gone without a word, and so the one that waited for it has begun, and ended."""
    submitted(tmp_path, pilot="1_0", waits="2_0")
    write_ended(EndedJob(status=EARLY, said="too early"), tmp_path, "2_0")
    return Start(tmp_path, monkeypatch)


def test_what_began_too_early_is_submitted_again_once_its_pilot_is(early: Start) -> None:
    assert early.looks({}, SURE) == [PILOT]
    submitted(early.folder, pilot="3", waits="2_0")
    assert early.looks({"3": PENDING, "2_0": PENDING}) == []  # as Slurm still tells for a moment
    assert early.looks({"3": PENDING}) == [WAITS]
    submitted(early.folder, pilot="3", waits="4")
    assert early.looks({"3": PENDING, "4": PENDING}) == []
    assert early.ended == {}


def test_what_began_too_early_is_stopped_as_its_pilot_is(early: Start) -> None:
    assert early.looks({}, SURE, "CANCELLED") == []
    assert early.looks({}) == []
    assert early.ended == {PILOT: "stopped", WAITS: "stopped"}


def test_a_pilot_that_is_given_up_is_not_waited_for(early: Start) -> None:
    pilot, _ = both(early.folder)
    early.watch.give_up(pilot)
    ended = read_ended(early.folder, "1_0")
    assert ended is not None
    assert ended.status == "failed"
    assert early.looks({}) == [WAITS]  # to say in its record that the pilot has no result
    assert early.ended == {PILOT: "failed"}


@pytest.mark.parametrize("made", [False, True])
def test_a_remake_whose_job_is_gone_is_done_where_its_network_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: bool
) -> None:
    """Its record, of the run of before, is complete in any case."""
    submitted(tmp_path, pilot="1_0")
    start = Start(tmp_path, monkeypatch)
    pilot, _ = both(tmp_path)
    start.watch.open = {PILOT: pilot.model_copy(update={"remake": True})}
    found = SimpleNamespace(record=SimpleNamespace(status="done", files={}))
    monkeypatch.setattr("greenprune.bench.engines.cluster.watch.state", lambda *_: found)
    monkeypatch.setattr("greenprune.bench.engines.cluster.watch.verdict", lambda _: "")
    if made:
        pilot.folder.mkdir(parents=True)
        (pilot.folder / MODEL_FILE).touch()
    assert start.looks({}, SURE) == ([] if made else [PILOT])
    assert start.ended == ({PILOT: "done"} if made else {})
