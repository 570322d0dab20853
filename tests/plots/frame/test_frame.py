"""Records in, tidy tables out."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from greenprune.bench.energy.reading import KINDS, Kind
from greenprune.bench.errors import UserError
from greenprune.bench.records.cost import Calibration
from greenprune.bench.records.record import RECORD_FILE, SCHEMA_VERSION
from greenprune.plots.frame.frame import INFERENCE_COLUMNS, RUN_COLUMNS
from greenprune.plots.frame.load import load
from greenprune.plots.frame.rows import machine_label

import greenprune
from tests.plots.records import failed, inference, reading, record, source, store


def test_every_column_is_documented_and_there(tmp_path: Path) -> None:
    results = load(store(tmp_path, record("gated")))
    assert list(results.runs.columns) == list(RUN_COLUMNS)
    assert list(results.inference.columns) == list(INFERENCE_COLUMNS)
    assert all(RUN_COLUMNS.values())
    assert all(INFERENCE_COLUMNS.values())


def test_a_row_holds_the_figures_of_its_record(tmp_path: Path) -> None:
    training = reading(
        source(100.0, "measured", "nvml:0", 0.9, 1.1),
        source(30.0, "modelled", "cpu", 0.5, 2.0),
        source(10.0, "modelled", "ram", 0.5, 2.0),
    )
    run = record("gated", seed=7, energy={"training": training}, test_score=0.9123)
    row = load(store(tmp_path, run)).runs.iloc[0]
    assert run.cost is not None
    who = [row[name] for name in ("suite", "key", "method", "budget", "seed")]
    assert who == ["cifar10-cpu", run.key, "gated", 0.5, 7]
    assert row["test_score"] == pytest.approx(91.23)
    assert row["kept_macs"] == run.cost.macs / 40_800_000
    assert row["train_samples"] == 360_000
    kinds = ("train_energy_measured_j", "train_energy_modelled_j")
    figures = [[row[f"{kind}{end}"] for end in ("", "_low", "_high")] for kind in kinds]
    assert figures == [pytest.approx([100, 90, 110]), pytest.approx([40, 20, 80])]  # kinds are never added up
    assert math.isnan(row["train_energy_sampled_j"])


def test_inference_has_a_row_per_batch_size_in_joules_per_1000_images(tmp_path: Path) -> None:
    measured = inference(250, 0.5).model_copy(
        update={
            "images": 2_000,
            "dense_images": 500,
            "energy": reading(source(6.0)),
            "dense_energy": reading(source(2.0)),
        }
    )
    rows = load(store(tmp_path, record("gated", inference=(inference(1, 0.8), measured)))).inference
    assert list(rows["batch_size"]) == [1, 250]
    large = rows.iloc[1]
    assert large["energy_modelled_j_per_1000_images"] == pytest.approx(3.0)
    assert large["dense_energy_modelled_j_per_1000_images"] == pytest.approx(4.0)
    assert large["energy_ratio_modelled"] == pytest.approx(0.75)
    assert large["latency_ms"] == pytest.approx(62.5)
    assert large["latency_ratio"] == 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_an_energy_ratio_has_the_interval_of_its_record_or_none(tmp_path: Path, kind: Kind) -> None:
    """Bounds of a counter or of a model's assumptions are no 95 % interval and never stand in for one."""
    energy = reading(source(6.0, kind, low=0.5, high=2))
    dense_energy = reading(source(2.0, kind, low=0.5, high=2))
    update = {"images": 2_000, "dense_images": 500, "energy": energy, "dense_energy": dense_energy}
    totals = inference(250, 0.5).model_copy(update=update)
    blocks = totals.model_copy(update={"energy_ratio": {kind: (0.6, 0.55, 0.66)}})
    rows = load(store(tmp_path, record(inference=(totals,)), record("gated", inference=(blocks,)))).inference
    found = rows[[f"energy_ratio_{kind}{end}" for end in ("", "_low", "_high")]].to_numpy()
    assert found[0] == pytest.approx([0.75, math.nan, math.nan], nan_ok=True)  # 6 J / 2,000 over 2 J / 500
    assert list(found[1]) == [0.6, 0.55, 0.66]


def test_an_energy_ratio_to_nothing_is_unknown(tmp_path: Path) -> None:
    measured = inference(250, 1.0).model_copy(update={"dense_energy": reading(source(0.0))})
    row = load(store(tmp_path, record(inference=(measured,)))).inference.iloc[0]
    assert math.isnan(row["energy_ratio_modelled"])


def test_a_results_folder_a_suite_folder_and_a_run_folder(tmp_path: Path) -> None:
    store(tmp_path, record(), record("gated"), record(suite="quickstart"))
    assert len(load(tmp_path).runs) == 3
    assert len(load(tmp_path / "cifar10-cpu").runs) == 2
    assert len(load(tmp_path / "cifar10-cpu" / "dense-1-0").runs) == 1


def test_overlapping_folders_count_a_record_once(tmp_path: Path) -> None:
    store(tmp_path, record(), record("gated"))
    results = load([tmp_path, tmp_path / "cifar10-cpu"])
    assert len(results.runs) == 2
    assert results.problems == ()


@pytest.mark.parametrize(
    ("name", "words"),
    [("missing", "there is no such results folder"), ("empty", "holds no records"), ("file", "is not a folder")],
)
def test_nothing_to_read_is_one_clear_sentence(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=words) as error:
        load(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


def _spoil(folder: Path, key: str, text: str) -> None:
    (folder / "cifar10-cpu" / key).mkdir()
    (folder / "cifar10-cpu" / key / RECORD_FILE).write_text(text)


def test_unusable_records_are_named_and_left_out(tmp_path: Path) -> None:
    store(tmp_path, record())
    good = json.loads(record("gated").model_dump_json())
    _spoil(tmp_path, "1-truncated", '{"schema_version": 1, "suite"')
    _spoil(tmp_path, "2-newer", json.dumps(good | {"schema_version": SCHEMA_VERSION + 1}))
    _spoil(tmp_path, "3-older", json.dumps(good | {"schema_version": SCHEMA_VERSION - 1}))
    _spoil(tmp_path, "4-half", json.dumps(good | {"cost": None}))
    _spoil(tmp_path, "5-no-macs", json.dumps(good | {"cost": good["cost"] | {"macs_dense": 0}}))
    _spoil(tmp_path, "6-no-images", json.dumps(good | {"inference": [good["inference"][0] | {"images": 0}]}))
    results = load(tmp_path)
    assert list(results.runs["method"]) == ["dense"]
    assert {problem.kind for problem in results.problems} == {"unreadable"}
    words = (
        "JSON is broken",
        "newer than this",
        "older than this",
        "cost is missing",
        "cost.macs_dense",
        "inference.0.images",
    )
    assert len(results.problems) == len(words)
    for problem, word in zip(results.problems, words, strict=True):
        assert word in problem.what
        assert Path(problem.where).name == RECORD_FILE
        assert problem.where not in problem.what  # the place is said once
        assert problem.remedy


def test_failed_and_invalid_runs_are_problems(tmp_path: Path) -> None:
    kept_too_much = "kept 52.1 % of the MACs, allowed is 48 to 50 %"
    results = load(store(tmp_path, record(), failed(), record("gated", valid=False, invalid_reason=kept_too_much)))
    assert [(p.kind, p.where, p.what) for p in results.problems] == [
        ("invalid", "cifar10-cpu/gated-0.5-0", kept_too_much),
        ("failed", "cifar10-cpu/magnitude-0.5-0", "killed by signal 11 (SIGSEGV)"),
    ]
    assert list(results.runs["method"]) == ["dense", "gated"]
    assert list(results.runs["valid"]) == [True, False]


TABLE = {
    "unit": "s", "device": "CPU", "threads": 1, "dtype": "float32", "memory_format": "contiguous", "batch_size": 1,
    "torch_version": "2", "rounds": 3, "points": 9, "duration_s": 8.0, "whole": 1.0, "layers_sum": 1.0, "scale": 1.0,
    "unexplained": 0.0,
}  # fmt: skip


def test_a_calibration_on_a_busy_machine_is_a_problem(tmp_path: Path) -> None:
    calibrations = (Calibration(**TABLE, disagreement=off) for off in (0.04, 0.12))
    runs = [record("gated", seed=seed) for seed in (0, 1)]
    runs = [
        run.model_copy(update={"cost": run.cost.model_copy(update={"calibration": calibration})})
        for run, calibration in zip(runs, calibrations, strict=True)
    ]
    (problem,) = (p for p in load(store(tmp_path, *runs)).problems if p.kind == "calibration")
    assert problem.where == "cifar10-cpu/gated-0.5-1"
    assert "12 %" in problem.what


@pytest.mark.parametrize(
    ("ratio", "valid", "kinds"),
    [
        (0.54, True, []),
        (0.56, True, ["uncertain budget"]),
        (0.44, True, ["uncertain budget"]),
        (0.58, False, ["invalid"]),
    ],
)
def test_a_measured_budget_is_broken_where_its_interval_says_so(
    tmp_path: Path, ratio: float, valid: bool, kinds: list[str]
) -> None:
    """Half of the time, within a tenth; intervals of 0.02 to both sides."""
    run = record("gated", inference=(inference(1, ratio),))
    cost = {"kind": "latency", "kept_latency": ratio, "calibration": Calibration(**TABLE)}
    run = run.model_copy(update={"cost": run.cost.model_copy(update=cost)})
    found = load(store(tmp_path, run))
    assert list(found.runs["valid"]) == [valid]
    assert [p.kind for p in found.problems if p.kind in ("invalid", "uncertain budget")] == kinds
    if kinds:
        (said,) = (p.what for p in found.problems if p.kind in kinds)
        assert f"[{ratio - 0.02:.3f}" in said
        assert "[0.45, 0.55]" in said


def test_only_failed_runs_leave_empty_tables(tmp_path: Path) -> None:
    results = load(store(tmp_path, failed()))
    assert results.runs.empty
    assert results.inference.empty
    assert results.comparisons() == ()


def test_an_invalid_source_and_warnings_are_problems(tmp_path: Path) -> None:
    training = reading(source(None, "measured", "nvml:0"), source(5.0), warnings=("the window is short",))
    results = load(store(tmp_path, record(energy={"training": training}, warnings=("another process used the GPU",))))
    assert [(p.kind, p.what) for p in results.problems] == [
        ("energy", "training energy: nvml:0 is invalid (counter was reset)"),
        ("warning", "training energy: the window is short"),
        ("warning", "another process used the GPU"),
    ]
    assert math.isnan(results.runs.loc[0, "train_energy_measured_j"])  # never 0 J
    assert results.runs.loc[0, "train_energy_modelled_j"] == 5.0


@pytest.mark.parametrize("later", ["a", "b"])
def test_of_two_runs_of_the_same_the_later_counts(tmp_path: Path, later: str) -> None:
    runs = [
        record("gated", key=key, finished_at=f"2026-01-0{2 if key == later else 1}T00:00:00Z", test_score=accuracy)
        for key, accuracy in (("a", 0.80), ("b", 0.90))
    ]
    results = load(store(tmp_path, *runs))
    assert list(results.runs["key"]) == [later]
    assert [record.key for record in results.records] == [later]
    (problem,) = results.problems
    assert problem.kind == "repeated"
    assert problem.where == f"cifar10-cpu/{'a' if later == 'b' else 'b'}"


def test_machines_suites_and_folders_are_kept_apart(tmp_path: Path) -> None:
    other = {"cpu": "Other CPU", "cores": 8}
    one = store(tmp_path / "one", record(), record("gated", machine=other), record("gated", suite="quickstart"))
    two = store(tmp_path / "two", record())
    parts = load([one, two]).comparisons()
    assert [len(part.runs) for part in parts] == [1, 1, 1, 1]
    for part in parts:
        assert [stored.method for stored in part.records] == list(part.runs["method"])
        assert set(part.inference["method"]) == set(part.runs["method"])


@pytest.mark.parametrize(
    ("machine", "label"),
    [
        ({"cpu": "A", "cores": 4, "threads": 4}, "A, 4 cores"),
        ({"cpu": "A", "cores": 4, "threads": 2, "gpu": "B"}, "B, A, 4 cores, 2 threads"),
        ({"gpu": None}, "unknown machine"),
    ],
)
def test_machine_label(machine: dict, label: str) -> None:
    assert machine_label(machine) == label


def test_nothing_in_plots_imports_torch_or_pyplot() -> None:
    package = Path(greenprune.plots.__file__).parent
    files = [path.relative_to(package).with_suffix("") for path in package.rglob("*.py") if path.stem != "__init__"]
    modules = [".".join(("greenprune.plots", *path.parts)) for path in files]
    assert "greenprune.plots.report.report" in modules
    code = f"import sys, {', '.join(modules)}; print([m for m in ('torch', 'matplotlib.pyplot') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=package.parent)
    assert done.stdout.strip() == "[]"


def test_one_core_and_one_thread_are_no_plural() -> None:
    assert machine_label({"cpu": "Example", "cores": 1}) == "Example, 1 core"
    assert machine_label({"cpu": "Example", "cores": 2, "threads": 1}) == "Example, 2 cores, 1 thread"
    assert machine_label({"cpu": "Example", "cores": ["odd"]}) == "Example, ['odd'] cores"


def test_a_run_of_a_view_stands_in_it_once_although_another_one_is_equal_to_dense_too(tmp_path: Path) -> None:
    """The run at equal images took 0.99 of the joules of dense, as dense was run again since."""
    dense, own = record(), record("gated")
    share = 0.99 * dense.energy["training"].energy_j("modelled")
    own = own.model_copy(update={"energy": {"training": reading(source(share))}})
    longer = own.model_copy(update={"key": "gated-0.5-0-equal-joules", "settings": own.settings | {"view": "joules"}})
    runs = load(store(tmp_path, dense, own, longer)).runs
    equal = runs[(runs["view"] == "equal training energy") & (runs["method"] == "gated")]
    assert list(equal["key"]) == ["gated-0.5-0-equal-joules"]
