"""What a job of a cluster is asked for, and counts in a plan, when its run trains on several devices."""

from __future__ import annotations

from typing import Any

import pytest
from greenprune.bench.engines.cluster.options import EngineOptions, JobOptions
from greenprune.bench.engines.ray import refuse_devices
from greenprune.bench.errors import UserError
from greenprune.bench.plan.cluster import Site
from greenprune.bench.suite.recipe import Training


def recipe(devices: int, nodes: int = 1) -> Training:
    return Training(epochs=1, batch_size=64, devices=devices, nodes=nodes)


def test_a_run_on_two_nodes_is_one_task_that_has_both() -> None:
    options = EngineOptions(slurm_gpus_per_node=4, slurm_srun_args=("--mpi=none",))
    asked = options.for_runs(recipe(4, 2), "cuda")
    assert asked["additional_parameters"] == {"requeue": True, "nodes": 2, "ntasks-per-node": 1}
    assert asked["srun_args"] == ["--mpi=none", "--nodes=1", "--ntasks=1"]
    assert asked["gpus_per_node"] == 4
    assert "nodes" not in options.for_runs(recipe(4), "cuda")["additional_parameters"]


def test_processes_on_cores_have_a_core_each_where_nothing_is_said() -> None:
    assert EngineOptions().for_runs(recipe(2), "cpu")["cpus_per_task"] == 2
    assert EngineOptions(slurm_cpus_per_task=8).for_runs(recipe(2), "cpu")["cpus_per_task"] == 8
    assert "cpus_per_task" not in EngineOptions().for_runs(recipe(1), "cpu")


@pytest.mark.parametrize(
    ("said", "device", "key", "there"),
    [
        ({"slurm_gres": "gpu:2"}, "cuda", "slurm_gres", "2 GPUs"),
        ({"slurm_gres": "gpu:a100:1,gpu:h100:2,nvme:9"}, "cuda", "slurm_gres", "3 GPUs"),
        ({"slurm_gres": "gpu"}, "cuda", "slurm_gres", "1 GPU"),
        ({"slurm_gpus_per_node": "a100:3"}, "cuda", "slurm_gpus_per_node", "3 GPUs"),
        ({"slurm_gpus_per_task": 1}, "cuda", "slurm_gpus_per_task", "1 GPU"),
        ({"slurm_cpus_per_task": 3}, "cpu", "slurm_cpus_per_task", "3 cores"),
    ],
)
def test_fewer_devices_than_a_run_trains_on_are_refused(
    said: dict[str, Any], device: str, key: str, there: str
) -> None:
    options = EngineOptions(**said)
    few = int(there.split()[0])
    options.for_runs(Training(epochs=1, batch_size=6, devices=few), device)
    with pytest.raises(
        UserError, match=rf"training.devices = 4: by {key} of .* a job has {there} on a node; allowed are 4"
    ):
        options.for_runs(recipe(4), device)


def test_a_plan_counts_the_devices_of_all_nodes() -> None:
    asked = Site("slurm", gpus=8, spread=2, node_gpus=8)
    shared = EngineOptions(slurm_gpus_per_node=4).site(asked)
    assert (shared.gpus, shared.nodes) == (8, 1.0)  # half of each of two
    alone = EngineOptions(slurm_gres="gpu:a100:4", slurm_exclusive=True).site(asked)
    assert (alone.gpus, alone.nodes) == (8, 2.0)
    assert EngineOptions().site(asked).gpus == 8
    cores = EngineOptions().site(Site("slurm", gpus=0, cores=2, spread=3, node_cores=4))
    assert (cores.cores, cores.nodes) == (2, 1.5)


@pytest.mark.parametrize(
    ("devices", "nodes", "cpus", "gpus", "said"),
    [
        (4, 1, 8, 2, "a task has num_gpus = 2; allowed: num_gpus = 4 at least, or training.devices = 2"),
        (4, 1, 2, 0, "a task has num_cpus = 2; allowed: num_cpus = 4 at least"),
        (1, 2, 8, 8, "training.nodes = 2: a task of Ray is on one node; allowed: 1, or --engine slurm"),
    ],
)
def test_a_task_of_ray_with_fewer_is_refused(devices: int, nodes: int, cpus: int, gpus: int, said: str) -> None:
    refuse_devices(recipe(2), 2, 0)
    with pytest.raises(UserError, match=said):
        refuse_devices(recipe(devices, nodes), cpus, gpus)


def test_jobs_that_have_their_node_alone_are_told_so() -> None:
    def told(asked: dict[str, Any]) -> bool:
        return "export GREENPRUNE_WHOLE_NODE=1" in asked["setup"]

    for exclusive, alone in ((None, False), ("user", False), (True, True)):
        options = EngineOptions(slurm_exclusive=exclusive, slurm_setup=("module load cuda",))
        assert told(options.for_runs(recipe(1), "cpu")) == alone
        assert told(options.for_measuring()) == (exclusive != "user")
        assert options.for_measuring()["setup"][-1] == "module load cuda"


def test_what_is_false_is_not_said() -> None:
    """sbatch refuses `--exclusive=False`."""
    options = EngineOptions(
        slurm_exclusive=False,
        slurm_stderr_to_stdout=True,
        slurm_additional_parameters={"requeue": False, "nice": 0},
        measure=JobOptions(slurm_stderr_to_stdout=False),
    )
    runs, last = options.for_runs(recipe(1), "cpu"), options.for_measuring()
    assert "exclusive" not in runs
    assert runs["additional_parameters"] == {"nice": 0}
    assert runs["stderr_to_stdout"] is True
    assert last["exclusive"] is True
    assert "stderr_to_stdout" not in last


@pytest.mark.parametrize(
    ("gres", "there"),
    [("craynetwork:1,gpu:2", True), ("nvme:1, shard:4", True), ("craynetwork:1,nvme:2", False), (None, False)],
)
def test_gpus_are_found_wherever_they_are_named(gres: str | None, there: bool) -> None:
    assert EngineOptions(slurm_gres=gres).has_gpus is there
