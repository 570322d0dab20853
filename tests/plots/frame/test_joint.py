"""The measurement of all networks together counts before that of each run, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from greenprune.bench.records.inference import Served
from greenprune.bench.records.joint import JOINT_FILE, Joint, LeftOut, MeasuredNetwork, write_joint
from greenprune.bench.records.record import Record
from greenprune.plots.frame.comparison import comparison
from greenprune.plots.frame.load import load
from greenprune.plots.report.report import write_report

from tests.plots.records import grid, inference, store


def joint(records: list[Record], batches: tuple[int, ...] = (1, 250), ratio: float = 0.25, **changes) -> Joint:
    """In which every network takes `ratio` of the dense time."""
    fields = {
        "suite": "cifar10-cpu",
        "complete": True,
        "reference": "dense-1-0",
        "networks": tuple(
            MeasuredNetwork(
                key=r.key, method=r.method, method_name=r.method_name, budget=r.budget, seed=r.seed,
                finished_at=r.finished_at, inference=tuple(inference(size, ratio) for size in batches),
            )
            for r in records
        ),
        "batch_sizes": batches,
        "seconds": 3.0,
        "order_seed": 0,
        "dataset": "cifar10",
        "model": "resnet20",
        "precision": "float32",
        "channels_last": True,
        "threads": 2,
        "machine": {"cpu": "Measuring CPU", "cores": 4, "threads": 2},
        "versions": {},
        "command": "greenprune measure here",
        "started_at": "2026-02-01T00:00:00+00:00",
        "finished_at": "2026-02-01T00:10:00+00:00",
    }  # fmt: skip
    return Joint(**(fields | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store(tmp_path, *grid(seeds=2))
    return tmp_path / "cifar10-cpu"


def told(folder: Path) -> list[str]:
    """The problems that the measurement makes."""
    return [str(p) for p in load(folder).problems if p.kind in ("inference", "unreadable", "warning")]


def served(ratio: float, *batches: int, runtime: str = "onnxruntime") -> Served:
    return Served(runtime=runtime, precision="float32", inference=tuple(inference(size, ratio) for size in batches))


def test_runtimes_count_too_where_it_has_all_runs_of_a_method(tmp_path: Path) -> None:
    records = [r.model_copy(update={"served": (served(0.9, 1, 250),)}) for r in grid(seeds=2)]
    store(tmp_path, *records)
    folder = tmp_path / "cifar10-cpu"
    whole = joint(records, runtimes=("onnxruntime", "openvino"))
    lacking = next(r.key for r in records if r.method == "magnitude")
    networks = [
        n.model_copy(
            update={
                "served": (
                    served(0.5, *((1,) if n.key == lacking else (1, 250))),
                    served(0.4, 1, 250, runtime="openvino"),
                )
            }
        )
        for n in whole.networks
    ]
    write_joint(whole.model_copy(update={"networks": tuple(networks)}), folder)
    found = {r.key: r.served for r in load(folder).records}
    for r in records:
        onnx, vino = found[r.key]
        assert [i.latency_ratio for i in vino.inference] == [0.4, 0.4]
        assert [i.latency_ratio for i in onnx.inference] == ([0.9] * 2 if r.method == "magnitude" else [0.5] * 2)
    write_report([folder], folder)
    assert "in eager PyTorch, onnxruntime and openvino" in (folder / "report.html").read_text()


@pytest.mark.usefixtures("no_figures")
def test_it_counts_before_the_figures_of_each_run_and_says_so(folder: Path, tmp_path: Path) -> None:
    write_joint(joint(grid(seeds=2), warnings=("the machine was shared",)), folder)
    results = load(folder)
    assert results.inference["together"].all()
    assert set(results.inference["latency_ratio"]) == {0.25}
    assert all(joint is not None for joint in results.joints)
    table = comparison(results)
    assert table["inference_together"].all()
    assert table["large_batch_latency_ratio_mean"].tolist() == [0.25] * 3
    (problem,) = told(folder)
    assert "the machine was shared" in problem
    write_report([folder], tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Inference of all 6 networks was measured in one process" in page
    assert "on Measuring CPU, 4 cores, 2 threads, 2026-02-01" in page
    assert "greenprune measure here" in page
    assert "all networks in one process (inference.json)" in (tmp_path / "out" / "table.md").read_text()


def test_without_it_each_runs_own_figures_count_and_nothing_is_said_of_it(folder: Path) -> None:
    results = load(folder)
    assert not results.inference["together"].any()
    assert not comparison(results)["inference_together"].any()
    assert results.joints == (None,) * 6
    assert told(folder) == []


@pytest.mark.parametrize("why", ["missing", "trained again"])
def test_figures_of_a_method_and_budget_are_all_joint_or_none(folder: Path, why: str) -> None:
    measured = joint(grid(seeds=2))
    networks = [n for n in measured.networks if n.key != "gated-0.5-1"]
    if why == "trained again":
        (old,) = (n for n in measured.networks if n.key == "gated-0.5-1")
        networks.append(old.model_copy(update={"finished_at": "2020-01-01T00:00:00Z"}))
    write_joint(measured.model_copy(update={"networks": tuple(networks)}), folder)
    shown = load(folder).inference.groupby("method")["together"].agg(["min", "max"])
    assert shown.loc["gated"].tolist() == [False, False]
    assert shown.loc["magnitude"].tolist() == shown.loc["dense"].tolist() == [True, True]
    (problem,) = told(folder)
    assert "lacks networks of gated" in problem
    legend = load(folder)
    assert comparison(legend).set_index("method")["inference_together"].to_dict() == {
        "dense": True, "gated": False, "magnitude": True
    }  # fmt: skip


def test_batch_sizes_that_it_lacks_are_each_runs_own(folder: Path) -> None:
    write_joint(joint(grid(seeds=2), batches=(1, 32), complete=False), folder)
    shown = load(folder).inference.groupby("batch_size")["together"].agg(["min", "max"])
    assert shown.loc[1].tolist() == shown.loc[32].tolist() == [True, True]
    assert shown.loc[250].tolist() == [False, False]
    (problem,) = told(folder)
    assert "interrupted" in problem


def test_of_a_complete_one_only_its_own_batch_sizes_are_shown(folder: Path) -> None:
    write_joint(joint(grid(seeds=2), batches=(1, 32)), folder)
    assert set(load(folder).inference["batch_size"]) == {1, 32}


def test_what_was_left_out_is_named(folder: Path) -> None:
    left_out = (LeftOut(key="gated-0.5-0", reason="there is no stored network"),)
    measured = joint([r for r in grid(seeds=2) if r.key != "gated-0.5-0"], left_out=left_out)
    write_joint(measured, folder)
    problems = told(folder)
    assert any("cifar10-cpu/gated-0.5-0: there is no stored network" in p for p in problems)


def test_a_file_that_cannot_be_read_is_named_and_the_runs_own_figures_count(folder: Path) -> None:
    (folder / JOINT_FILE).write_text("{")
    results = load(folder)
    assert not results.inference["together"].any()
    (problem,) = told(folder)
    assert problem.startswith(f"unreadable: {folder / JOINT_FILE}: not a measurement of inference, its JSON is broken")


def test_figures_that_no_measurement_gives_are_not_believed(folder: Path) -> None:
    forged = joint(grid(seeds=2))
    first = forged.networks[0]
    odd = first.model_copy(update={"inference": (inference(1, 0.25).model_copy(update={"latency_ratio": 0.01}),)})
    write_joint(forged.model_copy(update={"networks": (odd, *forged.networks[1:])}), folder)
    assert not load(folder).inference["together"].any()
    (problem,) = told(folder)
    assert "dense-1-0: inference.0.latency_ratio = 0.01: is not within its bounds" in problem
