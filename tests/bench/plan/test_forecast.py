"""Plans of several suites, and what they will take in time and energy."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.energy.usage.processors import CorePower
from greenprune.bench.inference.pair import CPU_BLOCK_S, LONGER, LONGEST, MIN_BLOCKS
from greenprune.bench.plan import forecast as forecasts
from greenprune.bench.plan.devices import gpu_step_s
from greenprune.bench.plan.estimate import Estimate, epochs_of, inference_s
from greenprune.bench.plan.figures import Bounded
from greenprune.bench.plan.forecast import cpu_energy_j, forecast, gpu_run_s
from greenprune.bench.suite.file import load_suite

from tests.conftest import SUITE

IMAGES = {"train": 45_000, "holdout": 5_000, "test": 10_000}
EACH = Estimate(step_s=0.1, run_s=100.0, longest_s=120.0, cores=2.0, layers=20, macs=40_000_000, images=IMAGES)
POWER = CorePower(6.0, 2.0, 15.0, "a test")


def _suite(folder: Path, name: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(SUITE.replace('name = "tiny"', f'name = "{name}"').replace("tiny_networks:tiny", "resnet20"))
    return path


# Several suites


def test_the_papers_comparison_on_a_cpu() -> None:
    suite = load_suite("paper-cpu")
    assert {m.name for m in suite.methods} == {"dense", "gated", "magnitude", "slimming", "dynamic", "uniform"}
    assert (suite.about, suite.training.epochs) == ("cifar10 on resnet20", 8)
    paper = load_suite("paper")
    assert (suite.seeds, suite.tolerance) == (paper.seeds, paper.tolerance)
    assert set(suite.budgets) < set(paper.budgets)


def test_two_suites_of_one_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(_suite(tmp_path, name)) for name in ("one", "two")]
    assert main(["plan", *paths, "--name", "same"]) == 2
    assert capsys.readouterr().err == (
        f"greenprune: {paths[1]}: its name, same, is that of {paths[0]} too; allowed: one suite for each results folder\n"
    )


def test_several_suites_are_planned_one_after_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(_suite(tmp_path, name)) for name in ("one", "two")]
    assert main(["plan", *paths, "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.index("one: digits") < out.index("two: digits")
    assert out.count("kWh in all (modelled)") == 2


def test_budgets_are_shown_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("greenprune.bench.cli.plan._forecast", lambda *arguments: [])
    some = ["--only", "magnitude", "--set", "budgets=[0.125, 0.1251, 0.004]", "--set", "tolerance=0.001"]
    assert main(["plan", str(_suite(tmp_path, "two")), *some, "--out", str(tmp_path)]) == 0
    cells = re.findall(r"│ +([\d.]+) │ +0 │ to run", capsys.readouterr().out)
    assert sorted(cells) == ["0.004", "0.125", "0.1251"]


def test_a_matrix_is_planned_network_by_network_and_in_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(_suite(tmp_path, "two"))
    assert (
        main(["plan", path, "--set", 'model=["resnet20", "resnet32"]', "--only", "dense", "--out", str(tmp_path)]) == 0
    )
    out = capsys.readouterr().out
    assert "two: digits on resnet20, resnet32, on cpu" in out
    assert all(f"digits on {model}: 1 to run, about " in out for model in ("resnet20", "resnet32"))
    assert "in all: 2 to run, " in out
    assert "resnet32-dense-1-s0" in out


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_bad_suite_among_several_stops_all_of_them(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = _suite(tmp_path, "good")
    assert main([command, str(good), "nothing-like-it", "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("greenprune: nothing-like-it: no such suite")
    assert not (tmp_path / "out").exists()


# Time and energy


def test_inference_takes_up_to_twice_its_seconds() -> None:
    suite = load_suite("quickstart")
    shortest_s, longest_s = inference_s(suite, "cpu")
    assert longest_s == LONGER * shortest_s
    seconds, sizes = suite.measurement.inference_seconds, len(suite.measurement.inference_batch_sizes)
    assert shortest_s > 2 * seconds * sizes  # both networks
    short = suite.model_copy(update={"measurement": suite.measurement.model_copy(update={"inference_seconds": 0.01})})
    assert inference_s(short, "cpu")[0] > 2 * MIN_BLOCKS * CPU_BLOCK_S * sizes
    assert inference_s(short, "cuda")[0] > 10 * inference_s(short, "cpu")[0]  # blocks that a counter can resolve


@pytest.mark.parametrize("cost", ["latency", "energy", "auto"])
def test_what_decides_on_a_budget_may_be_measured_for_longer(cost: str) -> None:
    suite = load_suite("quickstart")
    sizes = len(suite.measurement.inference_batch_sizes)
    deciding = suite.model_copy(update={"cost": cost})
    shortest_s, longest_s = inference_s(deciding, "cpu")
    assert shortest_s == inference_s(suite, "cpu")[0]
    assert longest_s == pytest.approx(shortest_s * (LONGER * (sizes - 1) + LONGEST) / sizes)  # of all sizes one
    served = suite.measurement.model_copy(update={"runtimes": ("eager", "openvino"), "int8": True})
    elsewhere = deciding.model_copy(update={"measurement": served, "budget_runtime": "openvino"})
    shortest_s, longest_s = inference_s(elsewhere, "cpu")
    assert longest_s == pytest.approx(shortest_s * (LONGER * (3 * sizes - 2) + 2 * LONGEST) / (3 * sizes))


@pytest.mark.usefixtures("power")
def test_a_forecast_says_how_long_inference_is_measured() -> None:
    suite = load_suite("quickstart")
    size = max(suite.measurement.inference_batch_sizes)
    for cost, longest in (
        ("macs", "twice inference_seconds)"),
        ("latency", f"twice inference_seconds, or 10 times in eager at batch size {size}, which decides on budgets)"),
    ):
        told = forecast(suite.model_copy(update={"cost": cost}), EACH, "cpu", todo=1)[0]
        assert told.endswith(f"for at most {longest}")


def test_joules_are_seconds_times_busy_cores_times_watts() -> None:
    found = cpu_energy_j(EACH, 2.0, POWER)
    assert (found.value, found.low, found.high) == pytest.approx((2 * 6 * 110, 2 * 2 * 100, 2 * 15 * 120))


def test_a_gpu_step_is_the_longer_of_its_kernels_and_its_arithmetic() -> None:
    small = gpu_step_s(layers=20, macs=1000, batch_size=1)
    assert small.value == pytest.approx(20 * 0.15e-3)
    assert small.low < small.value < small.high
    large = gpu_step_s(layers=20, macs=10**10, batch_size=100)
    assert large.value == pytest.approx(6 * 10**12 / 10e12)
    assert large.low < large.value < large.high
    suite = load_suite("paper")
    run_s = gpu_run_s(suite, IMAGES, Bounded(1.0, 1.0, 1.0))
    assert run_s.low == pytest.approx(epochs_of(suite, IMAGES) + inference_s(suite, "cuda")[0])


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecasts, "this_core_power", lambda: POWER)


@pytest.mark.usefixtures("power")
def test_a_forecast_says_what_it_assumes() -> None:
    time, energy = forecast(load_suite("quickstart"), EACH, "cpu", todo=3)
    assert time.startswith("3 to run, about 2 min each, 5 min to 6 min in all (from 6 epochs")
    # 3 runs x 2 cores x 6 W x 110 s = 3960 J
    assert energy.startswith("about 0.00110 [0.000333, 0.00300] kWh in all (modelled), 0.52")
    for part in ("2.0 busy cores, as in these steps, at 6 W (2 to 15; a test)", "g/kWh", "not counted"):
        assert part in energy


@pytest.mark.usefixtures("power")
def test_runs_at_once_take_less_time_and_as_much_energy() -> None:
    suite = load_suite("quickstart")
    alone, together = (forecast(suite, EACH, "cpu", todo=4, at_once=n) for n in (1, 2))
    assert "7 min to 8 min in all (" in alone[0]
    assert "200 s" not in together[0]
    assert "3 min to 4 min in all with 2 at a time" in together[0]
    assert alone[1] == together[1]


@pytest.mark.usefixtures("power")
def test_what_takes_long_on_a_cpu_is_told_for_a_gpu_too_and_called_an_assumption() -> None:
    suite = load_suite("paper")
    lines = forecast(suite, replace(EACH, run_s=36_000.0, longest_s=36_100.0), "cpu", todo=21)
    assert len(lines) == 4
    assert "on one large GPU instead, by assumption and not measured: " in lines[2]
    assert "assumes a GPU that draws 250 W (100 to 500)" in lines[3]
    assert "(modelled)" in lines[3]
    assert len(forecast(suite, EACH, "cpu", todo=21)) == 2  # an hour on the CPU is no reason to think of a GPU
    assert len(forecast(suite, EACH, "cpu", todo=0)) == 1
    assert "assumes a GPU" in forecast(suite, EACH, "cuda", todo=21)[1]
