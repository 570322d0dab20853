"""`greenprune compare`: what is a regression, what is noise, and what is bad input."""

from __future__ import annotations

from pathlib import Path

import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.records.record import RECORD_FILE, Record
from greenprune.bench.records.score import Score
from greenprune.plots.frame.load import load
from greenprune.plots.report.regressions import compare

from tests.plots.records import failed, grid, inference, reading, record, source, store


def _slower(run: Record, factor: float) -> Record:
    assert run.ledger is not None
    entries = tuple(e.model_copy(update={"duration_s": e.duration_s * factor}) for e in run.ledger.entries)
    return run.model_copy(update={"ledger": run.ledger.model_copy(update={"entries": entries})})


def _answer(folder: Path, base: list[Record], new: list[Record], *options: str) -> int:
    return main(["compare", str(store(folder / "base", *base)), str(store(folder / "new", *new)), *options])


def test_the_same_runs_are_no_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = grid(seeds=3)
    assert _answer(tmp_path, runs, runs) == 0
    assert "No regression beyond 0.02." in capsys.readouterr().out


def test_accuracy_beyond_the_tolerance_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    runs = grid(seeds=3)
    worse = [
        run.model_copy(update={"test_score": run.test_score - 0.05}) if run.method == "gated" else run for run in runs
    ]
    assert _answer(tmp_path, runs, worse) == 1
    table = capsys.readouterr().out.split("Got worse by more than 0.02:")[1]
    assert "gated" in table
    assert "accuracy, points" in table
    assert "−5.00 [−5.00, −5.00]" in table
    assert "magnitude" not in table
    assert _answer(tmp_path / "lenient", runs, worse, "--tolerance", "0.06") == 0


def test_training_time_and_energy(tmp_path: Path) -> None:
    runs = grid(seeds=3)
    hungry = {"training": reading(source(99_000.0))}
    new = [_slower(r, 1.3) if r.method == "gated" else r for r in runs]
    new = [r.model_copy(update={"energy": hungry}) if r.method == "magnitude" else r for r in new]
    found = compare(load(store(tmp_path / "base", *runs)), load(store(tmp_path / "new", *new)))
    worse = {(change.method, change.name): change.value for change in found.changes if change.worse}
    assert set(worse) == {("gated", "training time, ×"), ("magnitude", "training energy (modelled), ×")}
    assert worse["gated", "training time, ×"] == pytest.approx(1.3)


def test_what_lies_within_the_noise_of_seeds_is_no_regression(tmp_path: Path) -> None:
    runs = grid(("dense", "gated"), seeds=3)
    noisy = [_slower(run, factor) for run, factor in zip(runs, (1, 1, 1, 0.7, 1.0, 1.6), strict=True)]
    found = compare(load(store(tmp_path / "base", *runs)), load(store(tmp_path / "new", *noisy)))
    (change,) = [c for c in found.changes if (c.method, c.name) == ("gated", "training time, ×")]
    assert change.value > 1.02
    assert change.low < 1 < change.high
    assert not change.worse


def test_with_one_seed_inference_has_the_interval_of_its_blocks(tmp_path: Path) -> None:
    def run(ratio: float, low: float, high: float) -> list[Record]:
        measured = inference(250, ratio).model_copy(update={"latency_ratio_low": low, "latency_ratio_high": high})
        return [record("gated", inference=(measured,))]

    base = load(store(tmp_path / "base", *run(0.50, 0.49, 0.51)))
    exact = compare(base, load(store(tmp_path / "exact", *run(0.65, 0.64, 0.66))))
    vague = compare(base, load(store(tmp_path / "vague", *run(0.65, 0.40, 0.90))))
    (change,) = [c for c in exact.changes if c.name == "inference time, ×"]
    assert change.value == pytest.approx(1.3)
    assert change.low > 1
    assert change.worse
    assert not [c for c in vague.changes if c.name == "inference time, ×" and c.worse]


def test_a_machine_that_is_slower_today_does_not_count_for_inference(tmp_path: Path) -> None:
    base = [record("gated", inference=(inference(250, 0.5),))]
    busy = [record("gated", inference=(inference(250, 0.5, joules_per_1000=12.0),))]
    assert _answer(tmp_path, base, busy) == 0


def test_a_lost_run_is_a_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = grid(("dense", "magnitude"))
    crashed = failed("magnitude").model_copy(update={"key": "magnitude-0.5-0"})
    assert _answer(tmp_path / "crashed", runs, [runs[0], crashed]) == 1
    assert "lost: cifar10-cpu/magnitude-0.5-0: killed by signal 11 (SIGSEGV)" in capsys.readouterr().out
    assert _answer(tmp_path / "missing", runs, runs[:1]) == 1
    assert "NEW has no such run" in capsys.readouterr().out
    invalid = record("magnitude", valid=False, invalid_reason="kept too much")
    assert _answer(tmp_path / "invalid", runs, [runs[0], invalid]) == 1
    assert "invalid (kept too much)" in capsys.readouterr().out


def test_other_machines_are_compared_relative_to_dense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = grid(("dense", "gated"), seeds=2)
    elsewhere = [_slower(run, 3).model_copy(update={"machine": {"cpu": "Slow CPU"}}) for run in runs]
    assert _answer(tmp_path, runs, elsewhere) == 0
    assert "compared as multiples of the dense network's" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("case", ["missing folder", "empty folder", "nothing in common", "broken record", "tolerance"])
def test_bad_input_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    base, new = store(tmp_path / "base", *grid()), tmp_path / "new"
    arguments = ["compare", str(base), str(new)]
    if case == "empty folder":
        new.mkdir()
    if case == "nothing in common":
        store(new, record(suite="other"))
    if case == "broken record":
        store(new, *grid())
        (new / "cifar10-cpu" / "dense-1-0" / RECORD_FILE).write_text("{")
    if case == "tolerance":
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--tolerance", "-1"])
        assert ended.value.code == 2
        return
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("greenprune: ")
    assert "Traceback" not in said


def _measured(run: Record, factor: float, *batches: int) -> Record:
    return run.model_copy(update={"inference": tuple(inference(batch, 0.7 * factor) for batch in batches)})


def test_a_seed_without_inference_hides_no_regression_of_the_others(tmp_path: Path) -> None:
    runs = [_measured(run, 1.0, 1, 64) for run in grid(methods=("dense", "gated"), seeds=3)]
    slow = [_measured(run, 1.3, 1, 64) if run.method == "gated" else run for run in runs]
    slow[-1] = slow[-1].model_copy(update={"inference": ()})
    found = compare(load(store(tmp_path / "base", *runs)), load(store(tmp_path / "new", *slow)))
    (change,) = [c for c in found.changes if (c.method, c.name) == ("gated", "inference time, ×")]
    assert change.worse
    assert change.pairs == 2
    assert change.value == pytest.approx(1.3)
    assert any("cifar10-cpu/gated-0.5-2" in note and "inference time" in note for note in found.notes)


def test_inference_is_compared_at_a_batch_size_that_both_have(tmp_path: Path) -> None:
    runs = [_measured(run, 2.0 if run.method == "gated" else 1.0, 64) for run in grid(methods=("dense", "gated"))]
    base = [run.model_copy(update={"inference": (*_measured(run, 1.0, 1).inference, *run.inference)}) for run in runs]
    small = [_measured(run, 1.0, 1) for run in runs]
    found = compare(load(store(tmp_path / "base", *base)), load(store(tmp_path / "new", *small)))
    assert not found.regressed
    assert [c.value for c in found.changes if c.name == "inference time, ×"] == [pytest.approx(1.0)] * 2
    nothing = compare(load(store(tmp_path / "other", *runs)), load(store(tmp_path / "new", *small)))
    assert not [c for c in nothing.changes if c.name == "inference time, ×"]
    assert any("no batch size at which both measured inference" in note for note in nothing.notes)


def test_runs_of_swapped_machines_are_of_different_ones(tmp_path: Path) -> None:
    """Both sides have the same two machines, and no run the same one."""
    fast, slow = {"cpu": "Fast CPU", "cores": 4}, {"cpu": "Slow CPU", "cores": 4}
    base = [record(m, seed=s, machine=(fast, slow)[s]) for m in ("dense", "gated") for s in (0, 1)]
    new = [run.model_copy(update={"machine": (slow, fast)[run.seed]}) for run in base]
    found = compare(load(store(tmp_path / "base", *base)), load(store(tmp_path / "new", *new)))
    assert any("multiples of the dense network's" in note for note in found.notes)


def test_scores_of_another_unit_are_not_subtracted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metres, centimetres = (Score(name="RMSE", unit=unit, higher_is_better=False) for unit in ("m", "cm"))
    base = [run.model_copy(update={"score": metres, "test_scores": {}}) for run in grid(seeds=2)]
    new = [run.model_copy(update={"score": centimetres}) for run in base]
    assert _answer(tmp_path, base, new) == 2
    assert "score.unit: m -> cm" in capsys.readouterr().err


@pytest.mark.parametrize("swapped", [False, True])
def test_a_run_is_compared_with_that_of_its_own_machine(tmp_path: Path, swapped: bool) -> None:
    """Although one side has the same run of another machine too, which did worse and whose files come last."""
    here = [run.model_copy(update={"test_score": 0.85}) for run in grid(("dense", "gated"), seeds=2)]
    worse = [run.model_copy(update={"test_score": 0.81}) for run in here]
    there = [
        run.model_copy(update={"key": f"{run.key}-there", "machine": {"cpu": "Z CPU"}, "test_score": 0.80})
        for run in here
    ]
    base, new = ([*here, *there], worse) if not swapped else (worse, [*here, *there])
    found = compare(load(store(tmp_path / "base", *base)), load(store(tmp_path / "new", *new)))
    (change,) = [c for c in found.changes if (c.method, c.name) == ("gated", "accuracy, points")]
    assert change.value == pytest.approx(4.0 if swapped else -4.0)
    assert not any("multiples of the dense network's" in note for note in found.notes)
