"""What counts a whole node is not used by a job that has a part of it, and the reason is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.energy.node.shared import NodePart, part_of_node

from tests.bench.energy.rapl.test_rapl import zone

JOB = {"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "1"}


@pytest.mark.parametrize(
    ("environ", "part"),
    [
        ({}, None),
        ({"SLURM_CPUS_ON_NODE": "1"}, None),  # no job
        ({**JOB, "SLURM_CPUS_ON_NODE": "64"}, None),
        (JOB, NodePart(1, 64)),
        ({"SLURM_JOB_ID": "7"}, None),
        ({**JOB, "SLURM_JOB_CPUS_PER_NODE": "64"}, None),  # a small step of a job that has the whole node
        ({**JOB, "SLURM_JOB_CPUS_PER_NODE": "64(x2)", "SLURM_NODEID": "1"}, None),
        ({**JOB, "SLURM_JOB_CPUS_PER_NODE": "64(x2),36", "SLURM_NODEID": "2"}, NodePart(36, 64)),
        ({**JOB, "SLURM_JOB_CPUS_PER_NODE": "36,64(x2)", "SLURM_NODEID": "2"}, None),
        # nodes of a step are numbered anew
        (
            {**JOB, "SLURM_JOB_CPUS_PER_NODE": "36,64", "SLURM_NODEID": "0", "SLURM_STEP_NUM_NODES": "1"},
            NodePart(1, 64),
        ),
        # the node is the job's, and Slurm keeps some of its cores for the system
        ({**JOB, "SLURM_JOB_CPUS_PER_NODE": "56"}, NodePart(56, 64)),
        ({**JOB, "SLURM_JOB_CPUS_PER_NODE": "56", "GREENPRUNE_WHOLE_NODE": "1"}, None),
        ({**JOB, "GREENPRUNE_WHOLE_NODE": "0"}, NodePart(1, 64)),
    ],
)
def test_what_a_job_has_of_its_node(environ: dict[str, str], part: NodePart | None) -> None:
    assert part_of_node(environ, 64) == part


@pytest.mark.parametrize("cores", [1, 64])
def test_the_packages_count_where_the_node_is_the_jobs_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    (tmp_path / "intel-rapl:0").symlink_to(zone(tmp_path / "devices/intel-rapl:0", "package-0"))
    environ = {**JOB, "SLURM_CPUS_ON_NODE": str(cores)}
    with EnergyMeter("cpu", powercap=tmp_path, environ=environ) as meter:
        rows = {entry["source"]: entry for entry in meter.describe()}
    assert rows["rapl:package-0"]["available"] == (cores == 64)
    assert ("cpu" in rows) == (cores == 1)  # else nothing is modelled beside the sensor
    if cores == 1:
        assert "1 of 64 cores (Slurm)" in rows["rapl:package-0"]["reason"]
        assert rows["rapl:package-0"]["remedy"].startswith("ask for the whole node")
        assert "GREENPRUNE_WHOLE_NODE=1" in rows["rapl:package-0"]["remedy"]
