"""The regression gate's mathematics, and which saved run it compares with."""

import json

import numpy as np
import pytest

from tests.benchmarks.ratios import Change, change, paired_ratios, typical
from tests.benchmarks.saved import KEY, Saved
from tests.benchmarks.side_by_side import Outcome

TOLERANCE = 0.15


def noisy(factor, count=15, spread=0.1, seed=0):
    return factor * np.exp(np.random.default_rng(seed).normal(0.0, spread, count))


def test_a_steady_drift_of_the_machine_cancels_in_pairs():
    speed = 1.1 ** np.arange(9)  # each block takes 10 % longer than the one before it
    assert paired_ratios(3 * speed[1::2], speed[0::2]) == pytest.approx([3.0] * 4)


@pytest.mark.parametrize(
    ("subject", "reference"), [([], []), ([1.0], [1.0]), ([1.0], [1.0, 0.0]), ([-1.0], [1.0, 1.0])]
)
def test_what_has_no_ratio_is_an_error(subject, reference):
    with pytest.raises(ValueError, match=r"reference|above zero"):
        paired_ratios(subject, reference)


def test_disturbed_blocks_do_not_count():
    assert typical([2.0] * 6 + [50.0, 0.01]) == pytest.approx(2.0)
    assert typical([1.0, 4.0]) == pytest.approx(2.0)


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.3])
def test_the_interval_holds_the_true_change(factor):
    """In 95 of 100 cases it should; with 60 cases, fewer than 50 would be a defect."""
    held = 0
    for seed in range(60):
        found = change(noisy(2 * factor, seed=seed), noisy(2.0, count=20, seed=1000 + seed))
        assert found.low <= found.factor <= found.high
        held += found.low <= factor <= found.high
    assert held >= 50


def test_only_a_change_that_noise_does_not_explain_is_a_regression():
    quiet = change(noisy(1.3, spread=0.03), noisy(1.0, spread=0.03, seed=1))
    loud = change(noisy(1.3, spread=0.6), noisy(1.0, spread=0.6, seed=1))
    assert quiet.regressed(TOLERANCE)
    assert not quiet.unclear(TOLERANCE)
    assert not loud.regressed(TOLERANCE)
    assert loud.unclear(TOLERANCE)
    assert not change(noisy(1.1, spread=0.03), noisy(1.0, spread=0.03, seed=1)).regressed(TOLERANCE)
    assert not change(noisy(0.5, spread=0.03), noisy(1.0, spread=0.03, seed=1)).regressed(TOLERANCE)


def test_what_is_too_noisy_to_tell_is_said():
    outcome = Outcome(
        "x", "0001_gate.json", {"CPU time": Change(1.1, 0.9, 1.3), "modelled joules": Change(1.0, 0.9, 1.1)}
    )
    assert outcome.sentence(TOLERANCE) == (
        "CPU time × 1.10 [0.90, 1.30], modelled joules × 1.00 [0.90, 1.10] since 0001_gate.json; "
        "too noisy to rule a regression out"
    )
    assert "noisy" not in outcome.sentence(0.5)


def test_what_is_unclear_takes_longest_and_a_regression_is_confirmed():
    fine, unclear, regressed = Change(1.0, 0.9, 1.1), Change(1.1, 0.9, 1.3), Change(1.3, 1.2, 1.4)
    assert Outcome("x", "0001_gate.json", {}).longer(TOLERANCE) == 1
    assert Outcome("x", "0001_gate.json", {"CPU time": fine}).longer(TOLERANCE) == 1
    assert Outcome("x", "0001_gate.json", {"CPU time": fine, "joules": regressed}).longer(TOLERANCE) == 2
    assert Outcome("x", "0001_gate.json", {"CPU time": unclear, "joules": regressed}).longer(TOLERANCE) == 3


def test_failure_names_what_rose_and_what_is_lost():
    changes = {"CPU time": Change(1.3, 1.2, 1.4), "modelled joules": Change(1.0, 0.9, 1.1)}
    failure = Outcome("x", "0001_gate.json", changes).failure(TOLERANCE)
    assert failure.startswith("x: CPU time to 1.30 [1.20, 1.40] × that of 0001_gate.json; tolerated is 1.15 ×")
    assert Outcome("x", "0001_gate.json", changes).failure(0.25) is None
    lost = Outcome("x", "0001_gate.json", {"CPU time": Change(1.0, 0.9, 1.1)}, lost="no joules, which it had: gone")
    assert lost.failure(TOLERANCE) == "x: no joules, which it had: gone"


def saved_run(folder, number, *, factor=1.0, passed=True, processor="one", name="test_a", fingerprint="f"):
    """A file as pytest-benchmark writes it, with what the gate adds."""
    figures = {"fingerprint": fingerprint, "cpu_ratios": [factor] * 4, "energy_ratios": None, "energy_kind": "modelled"}
    content = {
        "machine_info": {},
        "benchmarks": [{"fullname": name, "stats": {}, "extra_info": {"macs": 1, KEY: figures}}],
        KEY: {"passed": passed, "processor": processor},
    }
    path = folder / f"{number:04}_gate.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_the_last_run_that_passed_on_this_processor_and_has_the_benchmark_is_the_baseline(tmp_path):
    paths = [
        saved_run(tmp_path, 1),
        saved_run(tmp_path, 2, factor=2.0),
        saved_run(tmp_path, 3, passed=False),
        saved_run(tmp_path, 4, processor="another"),
        saved_run(tmp_path, 5, name="test_b"),
        saved_run(tmp_path, 6, fingerprint="of another benchmark"),
    ]
    saved = Saved(paths, "one")
    assert saved.find("test_c", "f") is None
    name, figures = saved.find("test_a", "f")
    assert (name, figures.cpu_ratios[0]) == ("0002_gate.json", 2.0)
    assert saved.find("test_b", "f")[0] == "0005_gate.json"
    assert saved.problems == []


def test_a_run_that_the_user_names_counts_though_it_failed(tmp_path):
    failed = saved_run(tmp_path, 1, passed=False)
    assert Saved([failed], "one").find("test_a", "f") is None
    assert Saved([failed], "one", chosen=True).find("test_a", "f")[0] == failed.name


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"cpu_ratios": [1.0', '"cpu_ratios": [-1.0'),
        lambda text: text.replace('"passed": true', '"passed": "who knows"'),
        lambda text: text.replace('"benchmarks"', '"bookmarks"'),
    ],
    ids=["cut", "empty", "list", "negative", "passed", "nothing"],
)
def test_a_damaged_file_is_named_in_one_sentence_and_left_out(tmp_path, damage):
    good, bad = saved_run(tmp_path, 1), saved_run(tmp_path, 2)
    text = bad.read_text()
    assert damage(text) != text
    bad.write_text(damage(text))
    saved = Saved([good, bad, tmp_path / "0003_gone.json"], "one")
    assert saved.find("test_a", "f")[0] == good.name
    assert len(saved.problems) == 2
    assert [str(p) in problem for p, problem in zip([tmp_path / "0003_gone.json", bad], saved.problems, strict=True)]
    assert all("\n" not in problem for problem in saved.problems)


def test_other_runs_of_pytest_benchmark_in_the_same_folder_are_none_of_ours(tmp_path):
    path = tmp_path / "0001_other.json"
    path.write_text(json.dumps({"benchmarks": [{"fullname": "test_a", "extra_info": {}, "stats": {}}]}))
    saved = Saved([path], "one")
    assert saved.find("test_a", "f") is None
    assert saved.problems == []
