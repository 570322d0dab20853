"""Plans for machines that are not here: what is added up, what is assumed, and that they need neither data nor GPU."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.data.published import as_published
from greenprune.bench.errors import UserError
from greenprune.bench.plan.cluster import STARTUP_S, Load, Site, makespan_s, pieces, total
from greenprune.bench.plan.devices import GPUS, RESTING, gpu_of, gpu_step_s
from greenprune.bench.plan.elsewhere import on_gpus
from greenprune.bench.plan.figures import Bounded
from greenprune.bench.suite.file import load_suite

from tests.bench.data.made import parquet, table

HOUR_S = 3600.0
ONE_W = Bounded(1.0, 1.0, 1.0)


def exactly(value: float) -> Bounded:
    return Bounded(value, value, value)


# What is added up


def test_runs_begin_when_a_place_is_free() -> None:
    assert makespan_s([3, 1, 1, 1], 2) == 3
    assert makespan_s([1, 1, 1, 3], 2) == 4  # the longest comes last
    assert makespan_s([2, 2, 2], None) == 2
    assert makespan_s([], 4) == 0


def test_a_run_that_is_longer_than_the_limit_takes_several_jobs() -> None:
    site = Site("slurm", at_once=1, gpus=1, node_gpus=8, limit_s=HOUR_S, requeue_s=600)
    run_s = 2.5 * (HOUR_S - STARTUP_S)
    assert pieces(run_s, site) == 3
    found = total([Load(2, exactly(run_s), ONE_W)], site)
    each_s = run_s + 3 * STARTUP_S
    assert found.jobs == 6
    assert found.busy_s.value == pytest.approx(2 * each_s)
    assert found.wall_s.value == pytest.approx(2 * (each_s + 2 * 600))  # the queue takes time, and no node
    assert found.node_s.value == pytest.approx(found.busy_s.value / 8)
    assert found.energy_j.value == pytest.approx(found.busy_s.value)
    with pytest.raises(UserError, match="a time limit of 2 min leaves no time to train"):
        pieces(run_s, Site("slurm", limit_s=120.0))


def test_the_last_job_has_a_node_alone_and_begins_when_all_others_have_ended() -> None:
    site = Site("slurm", at_once=2, gpus=4, node_gpus=8)
    runs = Load(3, Bounded(100.0, 50.0, 200.0), ONE_W)
    without, found = total([runs], site), total([runs], site, Load(1, exactly(10.0), ONE_W))
    assert found.wall_s.low < found.wall_s.value < found.wall_s.high
    assert found.wall_s.value - without.wall_s.value == pytest.approx(10 + STARTUP_S)
    assert found.node_s.value - without.node_s.value == pytest.approx(10 + STARTUP_S)
    assert without.node_s.value == pytest.approx(without.busy_s.value / 2)


# What is assumed


@pytest.mark.parametrize(
    ("gpu", "precision", "gpus", "images_per_s"),
    [("a100", "auto", 1, 2470), ("a100", "float32", 1, 938), ("a100", "auto", 8, 16621), ("v100", "auto", 8, 8322)],
)
def test_at_best_a_gpu_is_as_fast_as_was_published_for_resnet_50(
    gpu: str, precision: str, gpus: int, images_per_s: float
) -> None:
    step_s = gpu_step_s(54, 4_090_000_000, 256 * gpus, GPUS[gpu], precision, gpus)
    assert 256 * gpus / step_s.low == pytest.approx(images_per_s)
    assert step_s.low < step_s.value < step_s.high


def test_small_networks_take_the_time_to_start_their_kernels_on_any_gpu() -> None:
    steps = {gpu_step_s(20, 4_000_000, 128, gpu) for gpu in GPUS.values()}
    assert len(steps) == 1


def test_what_the_user_knows_better_counts_and_is_told() -> None:
    gpu = gpu_of("a100", watts=300, tflops=50, rest_watts=0)
    assert (gpu.board_w, gpu.rest_w, gpu.flop_per_s("auto")) == (exactly(300), exactly(0), exactly(50e12))
    assert gpu.source.startswith(
        "300 W a board as you say; 50 TFLOP/s as you say; 0 W for the rest of a node as you say; "
    )
    with pytest.raises(UserError, match=r"--gpu a10: is unknown; allowed: any, v100, a100, h100 \(did you mean"):
        gpu_of("a10")
    with pytest.raises(UserError, match="--gpu-watts -1: allowed is a number above 0"):
        gpu_of("any", watts=-1)


def test_gpus_of_a_job_that_its_run_does_not_train_on_rest() -> None:
    suite, data = load_suite("paper-cpu"), as_published("cifar10")
    assert data is not None
    gpu = gpu_of("any", tflops=1e-3, watts=100, rest_watts=0)  # so slow that its arithmetic counts
    one, four = (
        on_gpus(suite, {"cifar10": data}, {("cifar10", "resnet20"): 1}, Site("slurm", at_once=1, gpus=gpus), gpu)
        for gpus in (1, 4)
    )
    steps = [line for line in one if "steps of" in line]
    assert len(steps) == 1
    assert steps[0] in four
    assert not any("train one network" in line for line in four)
    assert not any("of its job" in line for line in one)
    assert (
        "  assumes: a run trains on 1 GPU (training.devices = 1); 3 more of its job rest, at 20 W each, counted in GPU-hours "
        "and node-hours" in four
    )
    took, megajoules = (
        [re.findall(pattern, lines[row])[0] for lines in (one, four)]
        for row, pattern in ((0, r"in 2 jobs: (.*) from the first"), (1, r"about ([\d.,]+)"))
    )
    assert took[0] == took[1]
    ratio = float(megajoules[1].replace(",", "")) / float(megajoules[0].replace(",", ""))
    assert ratio == pytest.approx(1 + 3 * RESTING, rel=0.03)


# Without data


def test_what_was_published_stands_in_for_images_that_are_not_here() -> None:
    data = as_published("imagenet")
    assert data is not None
    assert (data.classes, data.shape, len(data.test)) == (1000, (3, 224, 224), 50_000)
    assert len(data.train) + len(data.holdout) == 1_281_167
    assert len(data.holdout) == pytest.approx(0.1 * 1_281_167, abs=1)
    assert as_published("digits") is None
    assert as_published("my_images:train") is None


@pytest.mark.parametrize("suite", ["paper", "imagenet"])
def test_a_cluster_is_planned_without_data_and_gpu(
    suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GREENPRUNE_DATA", str(tmp_path))
    parquet(tmp_path / "other" / "train-0.parquet", table([0, 1]))  # no part of what the suites name
    monkeypatch.setattr("greenprune.bench.cli.plan._where_it_stands", lambda planned, folder: (planned, "to run"))
    some = ["--set", 'model="resnet20"'] if suite == "paper" else ["--set", "training.devices=8"]
    command = ["plan", suite, "--gpu", "a100", "--jobs", "8", "--out", str(tmp_path / "results"), *some]
    assert main(command) == 0
    out = capsys.readouterr().out
    figures, energy, *assumed = [line for line in out.splitlines() if line.startswith(("local", "about", "  assumes"))]
    assert figures.startswith("local, by assumption and not measured: ")
    assert f"runs, {'1 GPU' if suite == 'paper' else '8 GPUs'} each, 8 at a time, in " in figures
    assert any("8 GPUs train one network at" in line for line in assumed) == (suite == "imagenet")
    assert all(unit in figures for unit in ("GPU-hours", "node-hours"))
    assert "kWh in all (modelled)" in energy
    assert "gCO2e at " in energy
    assert "NVIDIA/DeepLearningExamples" in assumed[0]
    assert (
        f"{'cifar100' if suite == 'paper' else suite}: not here: planned with as many images as were published" in out
    )
    assert any("decoded as fast as they are trained on" in line for line in assumed) == (suite == "imagenet")


def test_a_data_folder_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "imagenet", "--gpu", "any", "--data", str(tmp_path / "nowhere")]) == 2
    assert "there is no such data folder" in capsys.readouterr().err
