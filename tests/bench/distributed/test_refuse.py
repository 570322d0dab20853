"""What a suite says of devices, and a machine does not have; and how nodes find each other."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from greenprune.bench.distributed import refuse
from greenprune.bench.distributed.nodes import Nodes, first_of, spread
from greenprune.bench.distributed.rank import Ended
from greenprune.bench.energy import Reading
from greenprune.bench.energy.beside import beside
from greenprune.bench.energy.reading import SourceReading
from greenprune.bench.errors import UserError
from greenprune.bench.suite.file import suite_from
from greenprune.bench.suite.recipe import Training


def suite(**training: Any) -> Training:
    about = {"name": "s", "dataset": "digits", "model": "resnet20", "budgets": [0.5], "methods": [{"name": "dense"}]}
    return suite_from({**about, "training": {"epochs": 1, **training}}, "s.toml").training


@pytest.mark.parametrize(
    ("training", "said"),
    [
        (
            {"batch_size": 64, "devices": 3},
            "devices = 3: batch_size = 64 is that of all 3 devices together; allowed: a batch_size that 3 divides",
        ),
        ({"batch_size": 40, "devices": 2, "nodes": 3, "accumulate_steps": 4}, "allowed: a batch_size that 24 divides"),
        ({"devices": 0}, "training.devices = 0"),
        ({"nodes": "two"}, "training.nodes"),
        ({"device": 2}, "devices"),
    ],
)
def test_a_batch_is_shared_equally(training: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        suite(**training)
    assert said in str(error.value)


def test_devices_are_no_part_of_the_settings_of_runs_on_one() -> None:
    assert {"devices", "nodes"}.isdisjoint(suite().model_dump())
    assert suite(devices=2).model_dump()["devices"] == 2


def test_more_devices_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    recipe = Training(epochs=1, batch_size=64, devices=4)
    refuse.refuse_devices(recipe, "cpu")
    for device, jobs, said in (
        (
            "cpu",
            2,
            "training.devices = 4 for each of --jobs 2: this machine has 4 cores; allowed with --device cpu: 1 to 2",
        ),
        ("cuda", 1, "training.devices = 4: this machine has 1 GPU; allowed with --device cuda: 1 to 1"),
    ):
        with pytest.raises(UserError) as error:
            refuse.refuse_devices(recipe, device, jobs)
        assert str(error.value) == said


def test_more_nodes_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    recipe = Training(epochs=1, batch_size=64, nodes=2)
    with pytest.raises(
        UserError, match=r"training.nodes = 2: there is one machine alone; allowed is 1, or 2 inside a job"
    ):
        refuse.refuse_devices(recipe, "cpu")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "3")
    with pytest.raises(UserError, match=r"training.nodes = 2: the job has 3;"):
        refuse.refuse_devices(recipe, "cpu")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    refuse.refuse_devices(recipe, "cpu")


def test_nodes_find_each_other_under_slurm() -> None:
    slurm = {
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_NODEID": "1",
        "SLURM_STEP_NODELIST": "n[07-08]",
        "SLURM_JOB_ID": "1234",
    }
    found = Nodes.here(2, slurm)
    assert (found.node, found.endpoint, found.options) == (1, "n07:30634", {"rank": 1})
    assert found.run_id == Nodes.here(2, {**slurm, "SLURM_NODEID": "0"}).run_id
    assert spread(2, slurm) == []
    assert spread(2, {"SLURM_JOB_NUM_NODES": "2", "SLURM_STEP_NUM_NODES": "1"})[:2] == ["srun", "--nodes=2"]
    assert [first_of(text) for text in ("a", "a,b", "a[1-2,7],b", "a-b[003]", "")] == ["a", "a", "a1", "a-b003", ""]


def test_the_first_word_of_a_rank_counts(tmp_path: Any) -> None:
    ended = Ended(tmp_path / "ended")
    assert ended.told() is None
    ended.tell(1, "why")
    Ended(tmp_path / "ended").tell(0)
    assert ended.told() == (1, "why")
    assert [path.name for path in tmp_path.iterdir()] == ["ended"]


def reading(*sources: tuple[str, str, float | None]) -> Reading:
    return Reading(
        name="training",
        duration_s=1.0,
        sources=tuple(
            SourceReading(
                name=name, kind=kind, energy_j=joules, valid=joules is not None, reason=None if joules else "gone"
            )
            for name, kind, joules in sources
        ),
    )


def test_what_ranks_read_at_the_same_time_adds_up() -> None:
    leads = reading(("nvml:0", "measured", 5.0), ("cpu", "modelled", 2.0), ("ram", "modelled", 1.0))
    follows = reading(("cpu", "modelled", 3.0), ("ram", "modelled", None))
    one = beside([("", leads), ("", follows)])
    assert {s.name: s.energy_j for s in one.sources} == {"nvml:0": 5.0, "cpu": 5.0, "ram": None}
    assert one.duration_s == 1.0
    two = beside([("a", leads), ("b", leads)])
    assert two.energy_j("measured") == 10.0
    assert {s.name for s in two.sources} == {f"{name}@{node}" for name in ("nvml:0", "cpu", "ram") for node in "ab"}
