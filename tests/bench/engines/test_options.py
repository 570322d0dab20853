"""What a job of a cluster is asked for, and counts in a plan, when its run trains on several devices."""

from __future__ import annotations

from typing import Any

import pytest
from greenprune.bench.engines.cluster.options import EngineOptions
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
