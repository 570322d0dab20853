"""Who reports for a node, by the variables of every launcher."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.energy.node.ranks import local_rank, of_node, rank_warnings, reporter

from tests.bench.energy.rapl.test_rapl import add, zone

TORCHRUN = {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "RANK": "5", "WORLD_SIZE": "8"}
SRUN = {"SLURM_LOCALID": "3", "SLURM_STEP_ID": "0", "SLURM_STEP_TASKS_PER_NODE": "4(x2),2", "SLURM_NODEID": "1"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        (TORCHRUN, (1, 2)),
        ({"LOCAL_RANK": "0"}, (0, None)),
        ({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}, None),
        ({"LOCAL_RANK": "x", "OMPI_COMM_WORLD_LOCAL_RANK": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, (2, 4)),
        ({"MV2_COMM_WORLD_LOCAL_RANK": "2", "MV2_COMM_WORLD_LOCAL_SIZE": "4"}, (2, 4)),
        ({"MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}, (1, 2)),
        ({"PALS_LOCAL_RANKID": "1"}, (1, None)),
        ({"JSM_NAMESPACE_LOCAL_RANK": "5", "JSM_NAMESPACE_LOCAL_SIZE": "6"}, (5, 6)),
        ({"HOROVOD_LOCAL_RANK": "0", "HOROVOD_LOCAL_SIZE": "2"}, (0, 2)),
        (SRUN, (3, 4)),
        ({**SRUN, "SLURM_NODEID": "2", "SLURM_LOCALID": "1"}, (1, 2)),
        ({"SLURM_LOCALID": "0", "SLURM_NTASKS_PER_NODE": "4"}, None),  # the batch script itself
        ({"SLURM_LOCALID": "0", "SLURM_STEP_ID": "1", "SLURM_NTASKS_PER_NODE": "4"}, (0, 4)),
        # torchrun with one process in each of two tasks of srun
        ({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", **SRUN}, (3, 4)),
        ({"LOCAL_RANK": "1", "LOCAL_SIZE": "4", "RANK": "5", "WORLD_SIZE": "8"}, (1, 4)),  # DeepSpeed
        ({"PMI_RANK": "3", "PMI_SIZE": "4"}, (3, None)),
        # one process on each of two nodes: the second reports for its own
        ({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "RANK": "1", "WORLD_SIZE": "2"}, None),
        ({"MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "1", "PMI_RANK": "1", "PMI_SIZE": "2"}, None),
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "1(x3)", "SLURM_LOCALID": "0", "PMI_RANK": "1", "PMI_SIZE": "3"}, None),
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "job-master-0.cluster"}, None),
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}, (1, None)),
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": socket.gethostname()}, (1, None)),
        # a shell of salloc
        ({"SLURM_LOCALID": "0", "SLURM_STEP_ID": "4294967290", "SLURM_TASKS_PER_NODE": "4"}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
    ],
)
def test_every_launcher_tells_the_rank_on_the_node(environ: dict[str, str], expected) -> None:
    found = local_rank(environ)
    assert (found and (found.rank, found.size)) == expected


def test_a_rank_that_reports_counts_all_gpus_of_the_job() -> None:
    rank_0 = reporter({"SLURM_LOCALID": "0", "SLURM_STEP_ID": "0", "SLURM_NTASKS_PER_NODE": "2"}, "one_per_node")
    bound = {"CUDA_VISIBLE_DEVICES": "2", "SLURM_STEP_GPUS": "2,3"}
    assert of_node(rank_0, bound, None, None) == (None, None, (2, 3))
    assert of_node(rank_0, {"SLURM_JOB_GPUS": "4,5", "SLURM_STEP_GPUS": ""}, "cuda", None) == (None, None, (4, 5))
    assert of_node(rank_0, {"SLURM_STEP_GPUS": "a,b"}, None, None) == (None, None, ())
    assert of_node(reporter(TORCHRUN, "one_per_node"), bound, None, ["GPU-1"]) == ("cpu", None, ())


def test_a_rank_that_reports_counts_the_gpus_that_were_named_or_none() -> None:
    """Others of the machine may be somebody else's."""
    rank_0 = reporter({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}, "one_per_node")
    of_job = {"SLURM_STEP_GPUS": "2,3"}
    assert of_node(rank_0, of_job, None, ["GPU-1"]) == (None, ["GPU-1"], ())
    assert of_node(rank_0, of_job, "cpu", None) == ("cpu", None, ())
    assert rank_0 is not None
    assert rank_warnings(rank_0, [], "cpu", of_job, alone=False) == []


@pytest.mark.parametrize(
    ("sensors", "job", "warned"),
    [
        ([], "4,5,6,7", True),
        (["nvml:0"], "4,5,6,7", True),
        (["nvml:0", "nvml:1", "nvml:2", "nvml:3"], "4,5,6,7", False),
        (["nvml:0"], "4", False),  # all four share it
        (["nvml:0"], None, True),
        (["rapl:package-0"], None, False),  # a job on the CPU
    ],
)
def test_gpus_of_the_job_that_are_not_seen_are_told(sensors: list[str], job: str | None, warned: bool) -> None:
    environ = SRUN | {"SLURM_LOCALID": "0"} | ({} if job is None else {"SLURM_STEP_GPUS": job})
    rank_0 = reporter(environ, "one_per_node")
    assert rank_0 is not None
    assert bool(rank_warnings(rank_0, sensors, None, environ, alone=False)) == warned


@pytest.mark.parametrize(
    ("cards", "shown", "job", "measured"),
    [
        (4, "0", "4,5,6,7", [0, 1, 2, 3]),  # half of a node of 8; a device cgroup hides the others and renumbers
        (2, "0", "1,2", [0, 1]),
        (4, "2", "2,3", [2, 3]),  # the whole node is seen
    ],
)
def test_the_rank_that_reports_measures_the_jobs_cards(gpu_script, cards: int, shown: str, job: str, measured) -> None:
    ids = {"SLURM_LOCALID": "0", "SLURM_STEP_ID": "0", "SLURM_NTASKS_PER_NODE": str(len(measured))}
    source = f"""
begin(DEVICES={cards}, PERIOD_MS=10)
with EnergyMeter(ranks="one_per_node", environ={ids | {"CUDA_VISIBLE_DEVICES": shown, "SLURM_STEP_GPUS": job}}) as meter:
    say(names=[row["source"] for row in meter.describe() if row["source"].startswith("nvml")])
"""
    assert gpu_script(source)["names"] == [f"nvml:{index}" for index in measured]


def test_a_word_that_is_none_of_the_two_is_an_error() -> None:
    with pytest.raises(ValueError, match='ranks = "all" is neither "each" nor "one_per_node"'):
        EnergyMeter("cpu", ranks="all")  # type: ignore[arg-type]


def readings(powercap: Path, ranks):
    """Of two ranks that both see one package, which counts 10 J."""
    environs = [{"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"} for rank in range(2)]
    meters = [EnergyMeter("cpu", powercap=powercap, environ=environ, ranks=ranks) for environ in environs]
    windows = [meter.begin("x") for meter in meters]
    add(powercap, "intel-rapl:0", 10)
    return [window.end() for window in windows], meters


def test_two_ranks_that_read_the_same_package_are_warned(tmp_path: Path) -> None:
    zone(tmp_path / "intel-rapl:0", "package-0", 1_000_000)
    found, _ = readings(tmp_path, "each")
    for rank, reading in enumerate(found):
        assert reading.energy_j("measured") == pytest.approx(10)
        assert any(f"rank {rank} of 2" in w and "rapl:package-0" in w and "one_per_node" in w for w in reading.warnings)
        assert reading.reporter is not None
        assert reading.reporter.reports


def test_one_of_two_ranks_reports_and_the_sum_is_the_truth(tmp_path: Path) -> None:
    zone(tmp_path / "intel-rapl:0", "package-0", 1_000_000)
    (first, second), meters = readings(tmp_path, "one_per_node")
    assert first.energy_j("measured") == pytest.approx(10)
    assert second.energy_j("measured") is None
    assert [s.kind for s in second.sources if s.kind != "modelled"] == []
    assert any("reported by rank 0 of this node" in w for w in second.warnings)
    assert (first.reporter.reports, second.reporter.reports) == (True, False)  # type: ignore[union-attr]
    assert any("reported by rank 0" in row["reason"] for row in meters[1].describe() if not row["available"])


def test_without_a_launcher_nothing_changes(tmp_path: Path) -> None:
    zone(tmp_path / "intel-rapl:0", "package-0", 1_000_000)
    with EnergyMeter("cpu", powercap=tmp_path, environ={}, ranks="one_per_node").window("x") as w:
        add(tmp_path, "intel-rapl:0", 10)
    assert w.reading.energy_j("measured") == pytest.approx(10)
    assert w.reading.reporter is None


def test_two_ranks_that_see_two_gpus(gpu_script) -> None:
    source = """
begin(TRACE=300, DEVICES=2, PERIOD_MS=10)
found = {}
for ranks in ("each", "one_per_node"):
    meters = [EnergyMeter(ranks=ranks, environ={"LOCAL_RANK": str(r), "LOCAL_WORLD_SIZE": "2"}) for r in range(2)]
    windows = [meter.begin("x") for meter in meters]
    time.sleep(0.6)
    readings = [window.end() for window in windows]
    found[ranks] = [sum(g["energy_j"] for r in readings for g in gpus(r)), readings[0].duration_s,
                    [any("nvml:0, nvml:1" in w for w in r.warnings) for r in readings]]
own = [EnergyMeter(f"cuda:{r}", environ={"LOCAL_RANK": str(r), "LOCAL_WORLD_SIZE": "2"}) for r in range(2)]
windows = [meter.begin("x") for meter in own]
time.sleep(0.6)
say(own=[w.end().warnings for w in windows], **found)
"""
    answer = gpu_script(source)
    joules, duration_s, warned = answer["each"]
    assert joules == pytest.approx(4 * 300 * duration_s, rel=0.1)
    assert warned == [True, True]
    joules, duration_s, _ = answer["one_per_node"]
    assert joules == pytest.approx(2 * 300 * duration_s, rel=0.1)
    assert not any("one_per_node" in w for warnings in answer["own"] for w in warnings)  # each has its own


def test_two_commands_that_a_launcher_started(gpu_script, tmp_path) -> None:
    source = f"""
import subprocess
begin(TRACE=300, DEVICES=2, PERIOD_MS=10)
stored = []
for rank in range(2):
    file = {str(tmp_path)!r} + f"/{{rank}}.json"
    command = [sys.executable, "-m", "greenprune", "energy", "--ranks", "one_per_node", "--json", file, "--", "sleep", "0.5"]
    environ = os.environ | {{"SLURM_LOCALID": str(rank), "SLURM_STEP_ID": "0", "SLURM_NTASKS_PER_NODE": "2"}}
    subprocess.run(command, env=environ, check=True, capture_output=True)
    with open(file) as f:
        stored.append(json.load(f))
say(totals=[s["totals"].get("measured") for s in stored], reporters=[s["reading"]["reporter"] for s in stored],
    duration_s=stored[0]["reading"]["duration_s"])
"""
    answer = gpu_script(source)
    first, second = answer["totals"]
    assert first["energy_j"] == pytest.approx(600 * answer["duration_s"], rel=0.1)
    assert second is None
    assert [r["reports"] for r in answer["reporters"]] == [True, False]
