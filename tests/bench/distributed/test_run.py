"""A run on two devices from its start to its record: what it says, and what happens when ranks are stopped or lost."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from greenprune.bench.data.data import limited
from greenprune.bench.data.load import load
from greenprune.bench.energy.sensors.place import SYSFS_VARIABLE
from greenprune.bench.plan.plan import plan
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import Record
from greenprune.bench.run.job import STOPPED, Job
from greenprune.bench.run.process import JOB_FILE, Ended, Workers
from greenprune.bench.suite.file import suite_from
from safetensors.torch import load_file
from torch import Tensor, nn

EPOCHS, STEPS_PER_EPOCH, BATCH_SIZE = 4, 4, 16
POWER_W = 20.0

Told = list[dict[str, Any]]
Done = tuple[Record, Path, Told]


class Plain(nn.Module):
    """Two convolutions; most of the image is dropped, for a quick test."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, stride=4, bias=False), nn.BatchNorm2d(8)
        self.second, self.last = nn.Conv2d(8, 8, 3), nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.norm(self.first(x)).relu()).relu().mean((2, 3)))


def plain(classes: int) -> nn.Module:
    """In a rank that does not lead it makes the interpreter end badly, as threads of PyTorch do now and then."""
    if os.environ.get("RANK", "0") != "0":
        atexit.register(os.abort)
    return Plain(classes)


def job(folder: Path) -> Job:
    count = STEPS_PER_EPOCH * BATCH_SIZE
    suite = suite_from(
        {
            "name": "pair",
            "dataset": "digits",
            "train_images": count,
            "model": f"{__name__}:plain",
            "budgets": [0.6],
            "tolerance": 0.2,
            "methods": [{"name": "gated"}],
            "training": {"epochs": EPOCHS, "batch_size": BATCH_SIZE, "devices": 2, "precision": "float32"},
            "measurement": {"inference_seconds": 0.05, "inference_batch_sizes": [16]},
        },
        "pair",
    )
    ((run),) = plan(suite, {"digits": limited(load("digits"), count)}, "cpu")
    return Job(
        suite="pair", key=run.key, settings=run.settings, data_root=None, folder=str(folder), command="",
        checkpoint_minutes=0.0005,
    )  # fmt: skip


def rank_of(number: int, folder: Path) -> psutil.Process:
    """One of the ranks of the run in `folder`."""
    for process in psutil.process_iter():
        try:
            if str(folder / JOB_FILE) in process.cmdline() and process.environ().get("RANK") == str(number):
                return process
        except psutil.Error:
            continue
    raise AssertionError(f"there is no rank {number}")


@contextmanager
def package(sysfs: Path) -> Iterator[None]:
    """Inside, `sysfs` has a counter of a processor, of `POWER_W`."""
    zone = sysfs / "class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text("262143328850\n")
    file = os.open(zone / "energy_uj", os.O_WRONLY | os.O_CREAT, 0o644)
    over = threading.Event()

    def count() -> None:
        while not over.is_set():
            os.pwrite(file, b"%020d\n" % round(1e6 * POWER_W * (time.monotonic() - began_s)), 0)
            over.wait(0.005)

    began_s = time.monotonic()
    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        os.close(file)


def done(folder: Path, monkeypatch: pytest.MonkeyPatch, *disturbances: Callable[[], None]) -> tuple[Ended, Told]:
    """Do the job; do one of `disturbances` at the end of each epoch, from the first on."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    told: Told = []
    left = list(disturbances)

    def heard(event: dict[str, Any]) -> None:
        told.append(event)
        if left and event.get("epoch_ended"):
            left.pop(0)()

    return Workers().run(job(folder), heard), told


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch, package(folder / "sys"):
        patch.setenv(SYSFS_VARIABLE, str(folder / "sys"))
        ended, told = done(folder / "run", patch)
    assert ended.code == 0, (folder / "run/output.log").read_text()
    return read_record(folder / "run/record.json"), folder / "run", told


def test_the_record_is_of_all_ranks(undisturbed: Done) -> None:
    record, folder, told = undisturbed
    assert record.valid, record.invalid_reason
    assert record.settings["training"]["devices"] == 2
    assert record.ledger is not None
    assert record.ledger.samples == BATCH_SIZE * STEPS_PER_EPOCH * EPOCHS
    assert [event["epoch"] for event in told if event.get("epoch_ended")] == [1, 2, 3, 4]
    assert {"ranks", "checkpoint.pt", "spent.jsonl"}.isdisjoint(path.name for path in folder.iterdir())


def test_energy_is_that_of_both_ranks_counted_once(undisturbed: Done) -> None:
    record, _, _ = undisturbed
    training = record.energy["training"]
    assert [part.rank for part in record.ranks] == [0, 1]
    parts = {
        source.name: [own.energy_j for part in record.ranks for own in part.energy.sources if own.name == source.name]
        for source in training.sources
    }
    assert len(parts) == len(training.sources)
    (counter,) = (source for source in training.sources if source.kind == "measured")
    assert len(parts[counter.name]) == 1  # it counts for the machine: the first rank reads it
    assert counter.energy_j == pytest.approx(POWER_W * training.duration_s, rel=0.4)
    for source in training.sources:
        if source.kind == "modelled":  # of a process's own tree
            assert len(parts[source.name]) == 2
            assert min(parts[source.name]) > 0
            assert source.energy_j == pytest.approx(sum(parts[source.name]))
    assert record.ledger is not None
    spent = sum(entry.energy_j["modelled"] for entry in record.ledger.entries)
    assert spent == pytest.approx(training.energy_j("modelled"), rel=0.3)


def test_ranks_that_are_stopped_and_lost_go_on_and_end_the_same(
    undisturbed: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    # To what started the ranks, as from a batch system; and to one of them alone.
    ended, _ = done(folder, monkeypatch, lambda: rank_of(0, folder).parent().send_signal(signal.SIGUSR1))
    assert (ended.code, ended.reason) == (
        STOPPED,
        "stopped by SIGTERM; saved after a whole step, start it again to go on",
    )
    assert (folder / "checkpoint.pt").exists()
    assert not (folder / "record.json").exists()
    ended, told = done(folder, monkeypatch, lambda: rank_of(1, folder).terminate())
    assert (ended.code, ended.reason) == (
        STOPPED,
        "stopped with another rank; saved after a whole step, start it again to go on",
    )
    assert [event["event"] for event in told].count("resumed") == 1
    ended, told = done(folder, monkeypatch, lambda: rank_of(1, folder).kill())
    assert ended.code == 0, (folder / "output.log").read_text()
    resumed = [event["step"] for event in told if event["event"] == "resumed"]
    # Where it was stopped, and where the last checkpoint before the kill was.
    assert len(resumed) == 2, (folder / "output.log").read_text()
    assert 0 < resumed[0] <= resumed[1]
    record, expected = read_record(folder / "record.json"), undisturbed[0]
    assert record.interruptions == 3
    assert "redone" in record.energy
    ours, theirs = (load_file(place / "model.safetensors") for place in (folder, undisturbed[1]))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert [(e.epoch, e.loss, e.train_score) for e in record.epochs] == [
        (e.epoch, e.loss, e.train_score) for e in expected.epochs
    ]
