"""Suites whose budget is stated in something else than MACs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.data.load import load
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.errors import UserError
from greenprune.bench.inference.calibration import achieved, best_energy, how_much_longer, joules_per_call
from greenprune.bench.inference.kept import FOLDER, kept, named
from greenprune.bench.inference.pair import LONGER, LONGEST
from greenprune.bench.inference.served import LARGEST_DIFFERENCE
from greenprune.bench.plan.plan import plan, state
from greenprune.bench.records.check import impossible
from greenprune.bench.records.cost import Calibration, Cost
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import Record, write_record
from greenprune.bench.records.validity import broken_budget
from greenprune.bench.suite.file import load_suite
from greenprune.bench.suite.settings import Settings
from greenprune.methods import CostTable

from tests.conftest import SUITE
from tests.plots.records import inference

WITHOUT_GATED = SUITE.replace('[[methods]]\nname = "gated"\n', "")


WIDE = """\
from torch import nn

import greenprune.bench.inference.pair


def wide(classes):
    greenprune.bench.inference.pair.CPU_BLOCK_S = 0.01
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, classes),
    )
"""
"""Wide enough that its channels take time; a tiny network takes as long whatever its width."""


def run_tiny(tmp_path: Path, text: str) -> dict[str, Record]:
    suite = tmp_path / "suite.toml"
    suite.write_text(text)
    # On a busy machine a step of the measured costs may come out so high that no selection meets the budget: measure again.
    for _ in range(3):
        if main(["run", str(suite), "--out", str(tmp_path)]) == 0:
            break
        shutil.rmtree(tmp_path / "tiny" / FOLDER, ignore_errors=True)
    assert (tmp_path / "tiny" / "report.html").exists()
    return {p.parent.name: read_record(p) for p in (tmp_path / "tiny").glob("*/record.json")}


def test_a_budget_of_parameters_is_kept_and_recorded(at_work: Path, tmp_path: Path) -> None:
    found = run_tiny(tmp_path, WITHOUT_GATED.replace("budgets", 'cost = "params"\ntolerance = 0.05\nbudgets'))
    record = found["magnitude-0.5-s0"]
    assert (record.valid, record.invalid_reason) == (True, None)
    assert record.cost.kind == "params"
    assert 0.45 <= record.cost.kept_params <= 0.5
    assert record.cost.kept == record.cost.kept_params == pytest.approx(record.cost.predicted, abs=1e-5)
    assert record.cost.calibration is None
    assert found["dense-1-s0"].settings["cost"] == "macs"  # the same run for every kind of budget


def test_a_budget_holds_in_the_runtime_that_it_is_stated_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    (tmp_path / "wide_networks.py").write_text(WIDE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    text = WITHOUT_GATED.replace('[[methods]]\nname = "dense"\n', "").replace(
        "tiny_networks:tiny", "wide_networks:wide"
    )
    text = text.replace("epochs = 2", "epochs = 1").replace(
        "[measurement]", '[measurement]\nruntimes = ["onnxruntime"]'
    )
    asked = 'cost = "latency"\nbudget_runtime = "onnxruntime"\nbudgets = [0.8]'
    record = run_tiny(tmp_path, text.replace("budgets = [0.5]", asked))["magnitude-0.8-s0"]
    (served,) = record.served
    assert (served.runtime, served.precision, served.problem) == ("onnxruntime", "float32", None)
    assert served.difference < LARGEST_DIFFERENCE
    calibration = record.cost.calibration
    assert calibration.runtime == "onnxruntime"
    assert calibration.samples  # whole networks, since this runtime fuses layers
    assert record.cost.kept_latency == served.inference[0].latency_ratio
    assert record.cost.predicted <= 0.8
    assert not impossible(record)
    run, out = tmp_path / "tiny" / record.key, tmp_path / "exported"
    assert main(["export", str(run), "--to", "onnx", "--int8", "--trust", "--out", str(out)]) == 0
    assert (out / "model.onnx").is_file()
    card = (out / "README.md").read_text()
    assert "| onnxruntime | float32 | 16 |" in card
    assert "The score of this file was not measured." in card  # the run measured no 8-bit network
    assert "digits" in card
    assert main(["export", str(run), "--to", "pt2", "--trust", "--out", str(out)]) == 0
    assert f"{record.test_score:.2%}" in (out / "README.md").read_text()


TRACED = """\
from greenprune.bench.runtimes.compiled import Compiled


class Traced(Compiled):
    name, backend = "traced", "eager"

    def lacks(self):
        return None
"""
"""`compile` up to the compiler, which takes a quarter of a minute for each network."""


def test_a_budget_holds_in_a_runtime_that_runs_whole_networks_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wide_networks.py").write_text(WIDE)
    (tmp_path / "traced.py").write_text(TRACED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    text = WITHOUT_GATED.replace('[[methods]]\nname = "dense"\n', "").replace(
        "tiny_networks:tiny", "wide_networks:wide"
    )
    text = text.replace("epochs = 2", "epochs = 1").replace(
        "[measurement]", '[measurement]\nruntimes = ["traced:Traced"]'
    )
    asked = 'cost = "latency"\nbudget_runtime = "traced:Traced"\nbudgets = [0.8]'
    record = run_tiny(tmp_path, text.replace("budgets = [0.5]", asked))["magnitude-0.8-s0"]
    (served,) = record.served
    assert (served.runtime, served.problem) == ("traced:Traced", None)
    assert record.cost.calibration.runtime == "traced:Traced"
    assert len(record.cost.calibration.samples) >= 1
    assert record.cost.predicted <= 0.8
    assert record.cost.kept_latency == served.inference[0].latency_ratio


@pytest.mark.parametrize("cost", ["latency", "energy"])
def test_a_measured_budget_comes_with_its_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cost: str
) -> None:
    """Whether the network really ends near its budget depends on how busy the machine is; that the record tells does not."""
    (tmp_path / "wide_networks.py").write_text(WIDE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    text = WITHOUT_GATED.replace('[[methods]]\nname = "dense"\n', "").replace(
        "tiny_networks:tiny", "wide_networks:wide"
    )
    text = text.replace("epochs = 2", "epochs = 1").replace("[16]", "[1, 16]")
    text = text.replace("[[methods]]", '[[methods]]\nname = "uniform"\n[[methods]]')
    asked = f'cost = "{cost}"\nbudget_batch_size = 16\nbudgets = [0.8]'
    found = run_tiny(tmp_path, text.replace("budgets = [0.5]", asked))
    record = found["magnitude-0.8-s0"]
    assert found["uniform-0.8-s0"].cost.calibration == record.cost.calibration  # measured by whichever ran first
    assert len(list((tmp_path / "tiny" / "calibrations").glob("*.json"))) == 1
    assert record.cost.kind == cost
    assert record.cost.predicted <= 0.8
    assert record.cost.kept_latency == record.inference[1].latency_ratio
    calibration = record.cost.calibration
    assert (calibration.unit, calibration.batch_size) == ("s" if cost == "latency" else "J", 16)
    assert (calibration.energy_kind is None) == (cost == "latency")
    assert calibration.duration_s > 0
    assert calibration.scale == pytest.approx(calibration.whole / calibration.layers_sum)
    measured = record.inference[1]
    least, most = measured.latency_ratio_low, measured.latency_ratio_high
    if cost == "energy":
        _, least, most = measured.energy_ratio.get(calibration.energy_kind, (0.0, 0.0, 0.0))
    # A run is not called invalid for what noise alone can have done: its interval decides. Without one it is.
    assert record.valid == (least <= 0.88 and most >= 0.72)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            'cost = "latency"\nbudget_batch_size = 2',
            "budget_batch_size = 2: is not among measurement.inference_batch_sizes",
        ),
        (
            "budget_batch_size = 16",
            "budget_batch_size = 16: a budget of MACs holds at every batch size; allowed: with cost",
        ),
    ],
)
def test_a_batch_size_that_says_nothing_is_refused(at_work: Path, tmp_path: Path, lines: str, said: str) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(SUITE.replace("budgets", f"{lines}\nbudgets"))
    with pytest.raises(UserError, match=said):
        load_suite(str(suite))


def test_a_calibration_is_measured_once_for_the_same_conditions(tmp_path: Path) -> None:
    made = []

    def make() -> tuple[CostTable, Literal["modelled"]]:
        made.append(1)
        return TABLE, "modelled"

    first = kept(tmp_path, {"kind": "latency", "batch_size": 1}, make)
    assert kept(tmp_path, {"kind": "latency", "batch_size": 1}, make) == first
    assert (len(made), first.table, first.energy_kind) == (1, TABLE, "modelled")
    kept(tmp_path, {"kind": "latency", "batch_size": 2}, make)
    assert len(made) == 2
    path = tmp_path / FOLDER / f"{named(first.conditions)}.json"
    path.write_text(path.read_text().replace('"threads": 1', '"threads": 2'))
    kept(tmp_path, {"kind": "latency", "batch_size": 1}, make)  # a damaged one is measured again
    assert len(made) == 3


def test_channels_in_multiples(at_work: Path, tmp_path: Path) -> None:
    text = WITHOUT_GATED.replace("budgets = [0.5]", "round_to = 8\ntolerance = 0.15\nbudgets = [0.6]")
    cost = run_tiny(tmp_path, text)["magnitude-0.6-s0"].cost
    assert cost.round_to == 8
    assert {width % 8 for name, width in cost.widths.items() if name != "9"} == {0}


def test_records_from_before_there_were_other_costs_go_on(at_work: Path, tmp_path: Path) -> None:
    runs = plan(load_suite("tiny.toml"), {"digits": load("digits")}, "cpu")
    run = next(r for r in runs if r.settings.method.name == "magnitude")
    settings = run.settings.model_dump(mode="json")
    old = {k: v for k, v in settings.items() if k not in ("cost", "round_to")}
    epoch = {"phase": "train", "loss": 1.0, "train_score": 0.5, "holdout_score": None, "kept_macs": 0.5}
    epoch |= {"learning_rate": 0.1, "duration_s": 1.0}
    samples = 2 * (settings["images"]["train"] // 64) * 64
    entry = {"phase": "train", "samples": samples, "forward_macs": samples, "duration_s": 2.0}
    stored = {
        "status": "done", "suite": "tiny", "key": run.key, "method": "magnitude", "method_name": "magnitude",
        "budget": 0.5, "seed": 0, "settings": old, "valid": True, "test_score": 0.0,
        "score": {"name": "accuracy", "unit": "fraction", "higher_is_better": True},
        "cost": {"budget": 0.5, "tolerance": 0.02, "macs": 1, "macs_dense": 2, "params": 1, "params_dense": 2},
        "ledger": {"allowance_samples": samples, "entries": [entry]}, "epochs": [{"epoch": 1} | epoch, {"epoch": 2} | epoch],
    }  # fmt: skip
    write_record(Record.model_validate_json(json.dumps(stored)), tmp_path / run.key)
    assert state(run, tmp_path).changed == ()
    suite = tmp_path / "other.toml"
    suite.write_text(SUITE.replace("budgets", 'cost = "params"\nround_to = 8\nbudgets'))
    other = next(r for r in plan(load_suite(str(suite)), {"digits": load("digits")}, "cpu") if r.key == run.key)
    assert state(other, tmp_path).changed == ("cost: macs -> params", "round_to: 1 -> 8")


def test_the_plan_names_the_cost(at_work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(SUITE.replace("budgets", 'cost = "latency"\nround_to = 8\nbudgets'))
    assert main(["plan", str(suite)]) == 0
    out = capsys.readouterr().out
    assert "latency" in out
    assert "multiples of 8" in out


TABLE = CostTable(
    kind="latency", unit="s", device="cpu", threads=1, dtype="float32", memory_format="contiguous", batch_size=1,
    torch_version="2", seed=0, rounds=1, duration_s=1.0, whole=1.0, layers_sum=1.0, shapes=(), layers={},
)  # fmt: skip

COST = Cost(budget=0.5, tolerance=0.02, macs=49, macs_dense=100, params=60, params_dense=100)


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, None),
        ({"macs": 51}, "kept 0.5100 of the dense MACs, outside [0.48, 0.5]"),
        ({"macs": 46}, "kept 0.4600 of the dense MACs, outside [0.48, 0.5]"),
        ({"macs": 46, "round_to": 8}, None),
        ({"macs": 44, "round_to": 8}, "kept 0.4400 of the dense MACs, outside [0.45, 0.5]"),
        ({"kind": "params"}, "kept 0.6000 of the dense parameters, outside [0.48, 0.5]"),
        ({"kind": "latency", "kept_latency": 0.54}, None),
        ({"kind": "latency", "kept_latency": 0.56}, "kept 0.5600 of the dense time, outside [0.45, 0.55]"),
        ({"kind": "latency", "kept_latency": 0.43, "predicted": 0.455}, None),  # it was aimed at: the units are coarse
        (
            {"kind": "latency", "kept_latency": 0.4, "predicted": 0.455},
            "kept 0.4000 of the dense time, outside [0.4095, 0.55]",
        ),
        (
            {"kind": "latency", "kept_latency": 0.44, "predicted": 0.481},
            "kept 0.4400 of the dense time, outside [0.45, 0.55]",
        ),
        ({"kind": "energy", "kept_energy": 0.44}, "kept 0.4400 of the dense energy, outside [0.45, 0.55]"),
        ({"kind": "energy"}, "the energy could not be compared with the dense network's"),
    ],
)
def test_the_rule_that_a_budget_broke_is_named(changes: dict[str, object], broken: str | None) -> None:
    assert broken_budget(COST.model_copy(update=changes)) == broken


def test_achieved_is_taken_at_the_batch_size_of_the_calibration() -> None:
    calibration = Calibration(
        unit="J", energy_kind="modelled", device="cpu", threads=1, dtype="float32", memory_format="contiguous",
        batch_size=64, torch_version="2", rounds=1, points=1, duration_s=1.0, whole=1.0, layers_sum=1.0, scale=1.0,
        unexplained=0.0,
    )  # fmt: skip
    parts = [inference(1, 0.9), inference(64, 0.6)]
    parts[1] = parts[1].model_copy(update={"energy_ratio": {"modelled": (0.61, 0.6, 0.62)}})
    assert achieved(parts, (), calibration) == {"kept_latency": 0.6, "kept_energy": 0.61}
    assert achieved(parts, (), calibration.model_copy(update={"energy_kind": "measured"}))["kept_energy"] is None
    assert achieved(parts, (), None) == {}


def test_joules_of_a_call_are_read_from_the_meter() -> None:
    with EnergyMeter("cpu") as meter:
        kind, _ = best_energy(meter)
        assert joules_per_call(meter, kind, 0.02)(lambda: sum(range(50_000))) > 0


@pytest.mark.parametrize(("below", "kept", "valid"), [(None, 33, False), (0.333, 33, True), (0.333, 20, False)])
def test_a_network_of_coarse_units_may_end_at_the_nearest_cost_below(below, kept, valid):
    cost = COST.model_copy(update={"macs": kept, "nearest_below": below})
    assert (broken_budget(cost) is None) is valid


def test_what_decides_on_a_budget_is_measured_until_it_is_known() -> None:
    of_time = Settings.model_construct(cost="latency", budget_runtime="eager", budget_batch_size=64)
    assert [how_much_longer(of_time, "eager", size) for size in (1, 64)] == [LONGER, LONGEST]
    of_macs = of_time.model_copy(update={"cost": "macs"})
    assert how_much_longer(of_time, "openvino", 64) == how_much_longer(of_macs, "eager", 64) == LONGER
