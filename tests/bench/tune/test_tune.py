"""`greenprune tune`: what is tried, what decides, what it cost, and what a user reads when it cannot be done."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from greenprune.bench import terminal
from greenprune.bench.cli.main import main
from greenprune.bench.cli.tune import how_chosen, show
from greenprune.bench.energy.reading import SourceReading
from greenprune.bench.records.identity import Identity
from greenprune.bench.records.record import Ledger, LedgerEntry
from greenprune.bench.records.score import Score
from greenprune.bench.records.tuning import Spent, Trial, Tuning, read_tuning, write_tuning
from greenprune.bench.suite.entry import MethodEntry
from greenprune.bench.suite.file import load_suite
from greenprune.bench.tune import tune
from greenprune.methods import registry
from greenprune.methods.depgraph import DepGraph
from greenprune.methods.slimming import Slimming
from pydantic import ValidationError

from tests.conftest import SUITE
from tests.plots.records import ACCURACY, reading, source


def trial(number: int, accuracy: float | None = 0.5, **changes: Any) -> Trial:
    ledger = Ledger(
        allowance_samples=10,
        entries=(LedgerEntry(phase="train", samples=10, forward_macs=1000, duration_s=2.0),),
    )
    fields = {
        "number": number,
        "options": {"drift": float(number)},
        "status": "done",
        "holdout_score": accuracy,
        "spent": Spent(ledger=ledger, energy=reading(source(3.0))),
        "duration_s": 5.0,
    }
    return Trial(**fields | changes)


def tuning(*trials: Trial, **changes: Any) -> Tuning:
    fields: dict[str, Any] = {
        "suite": "cifar10-cpu",
        "method": "slimming",
        "method_name": "slimming",
        "budget": 0.5,
        "seed": 0,
        "settings": {},
        "score": ACCURACY,
        "holdout_images": 100,
        "space": {"drift": (0.0, 1.0)},
        "machine": {},
        "command": "greenprune tune",
        "trials": trials,
    }
    return Tuning(**fields | changes)


# What is tried


def test_every_declared_value_is_one_that_the_method_takes() -> None:
    declared = {name for name, method in registry().items() if method.tuning}
    assert declared >= {"slimming", "dynamic", "gated", "magnitude", "magnitude_unstructured", "depgraph"}
    for name in declared:
        own = registry()[name].Options().model_dump()
        assert all(own[option] in values for option, values in tune.space_of(MethodEntry(name=name)).items()), name


def test_candidates_are_the_suites_own_and_then_each_other_once(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(SUITE.replace("tiny_networks:tiny", "resnet20"))
    entry = MethodEntry.model_validate({"name": "slimming", "options": {"drift": 0.33, "strength": 1e-5}})
    found = tune.candidates(load_suite(str(path)), entry, steps_per_epoch=20)
    assert found[0] == {"drift": 0.33, "train_share": 0.6, "fine_tune_peak": 0.5}
    keys = [tune._key(choice) for choice in found]
    assert len(set(keys)) == len(keys) == 1 + 5 * 3 * 3
    assert keys == [tune._key(choice) for choice in tune.candidates(load_suite(str(path)), entry, 20)]
    assert tune.with_choice(entry, found[1]).options.strength == 1e-5  # what is not searched stays as it is


def test_choices_that_the_method_refuses_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DepGraph, "tuning", {"train_share": (0.3, 0.6), "sparsify_share": (0.3, 0.5)})
    path = tmp_path / "tiny.toml"
    path.write_text(SUITE.replace("tiny_networks:tiny", "resnet20"))
    found = tune.candidates(load_suite(str(path)), MethodEntry(name="depgraph"), steps_per_epoch=20)
    assert sorted(tuple(choice.values()) for choice in found) == [(0.3, 0.3), (0.3, 0.5), (0.6, 0.3)]


# What decides, and what it cost


def test_the_best_is_valid_and_the_earliest_of_equals() -> None:
    invalid = trial(2, 0.9, reason="kept 0.6000 of the dense MACs, outside [0.48, 0.5]")
    failed = trial(3, None, status="failed", reason="the loss is nan", spent=None)
    found = tuning(trial(0, 0.5), trial(1, 0.7), invalid, failed, trial(4, 0.7))
    assert found.best == trial(1, 0.7)
    assert tuning(invalid, failed).best is None


def priced(number: int, accuracy: float, energy_j: float) -> Trial:
    return trial(number, accuracy).model_copy(
        update={"spent": Spent(ledger=trial(0).spent.ledger, energy=reading(source(energy_j)))}
    )


def test_of_those_that_cannot_be_told_from_the_best_the_cheapest_is_chosen() -> None:
    found = tuning(priced(0, 0.65, 2.0), priced(1, 0.66, 5.0), priced(2, 0.7, 9.0))  # of 100 images: ± 0.046
    assert found.standard_error == pytest.approx(0.0458, abs=1e-4)
    assert found.best is not None
    assert found.best.number == 2
    assert found.chosen is not None
    assert found.chosen.number == 1
    assert found.model_copy(update={"holdout_images": 10_000}).chosen == found.best
    error = Score(name="figure", higher_is_better=False)  # whose error nobody knows
    assert tuning(priced(0, 0.5, 9.0), priced(1, 0.51, 1.0), score=error).chosen == priced(0, 0.5, 9.0)
    assert tuning(trial(0, None, status="failed", reason="x", spent=None)).chosen is None


def taking(number: int, accuracy: float, *sources: SourceReading, **changes: Any) -> Trial:
    return trial(number, accuracy, spent=Spent(ledger=trial(0).spent.ledger, energy=reading(*sources)), **changes)


def test_joules_of_one_kind_decide_and_a_sensor_that_failed_makes_no_trial_cheap() -> None:
    gpu, model = source(900.0, "measured", "nvml:0"), source(50.0)
    whole = taking(0, 0.7, gpu, model)
    failed = taking(1, 0.69, source(None, "measured", "nvml:0"), source(60.0))
    found = tuning(whole, failed)
    assert (found.comparable_kind, found.chosen) == ("modelled", whole)  # both have it: 50 J and 60 J
    cheaper = taking(1, 0.69, source(800.0, "measured", "nvml:1"), source(60.0))  # the other GPU of the machine
    found = tuning(whole, cheaper)
    assert (found.comparable_kind, found.chosen) == ("measured", cheaper)


def test_the_best_is_chosen_where_joules_cannot_be_compared() -> None:
    best = taking(0, 0.7, source(900.0, "measured", "nvml:0"), source(50.0, "measured", "rapl:package-0"))
    for other in (
        taking(1, 0.69, source(5.0)),  # another kind
        taking(1, 0.69, source(5.0, "measured", "rapl:package-0")),  # the same kind, without the GPU
        taking(
            1, 0.69, *best.spent.energy.sources[:1], source(1.0, "measured", "rapl:package-0"), machine={"cpu": "x"}
        ),
        trial(1, 0.69, spent=None),
    ):
        found = tuning(best, other)
        assert len(found.level) == 2
        assert (found.comparable_kind, found.chosen) == (None, best)
        assert how_chosen(found).startswith("of trials within it the best is chosen")
    assert how_chosen(tuning(best)) == "of trials within it the one of fewest measured joules is chosen"


def test_joules_are_shown_in_a_column_for_each_kind(capsys: pytest.CaptureFixture[str]) -> None:
    found = tuning(taking(0, 0.7, source(9000.0, "measured", "nvml:0"), source(50.0)), taking(1, 0.69, source(60.0)))
    show(found, terminal.console(), 2)
    out = capsys.readouterr().out
    assert f"{how_chosen(found)}." in " ".join(out.split())
    lines = {cells[0]: cells[4:6] for line in out.splitlines() if (cells := line.replace("│", " ").split())}
    assert (lines["0"], lines["1"]) == (["9,000", "50"], ["–", "60"])


def test_a_trial_on_another_machine_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "run_trial", lambda run, number, choice, *_: trial(number, options=choice))
    monkeypatch.setattr(tune, "describe_machine", lambda _: {"cpu": "Other"})
    entry = MethodEntry(name="slimming")
    settings: Any = SimpleNamespace(device="cpu", model_copy=lambda update: None)
    monkeypatch.setattr(tune, "Run", lambda *_, **__: None)
    display: Any = SimpleNamespace(start=lambda *_: None, finish=lambda *_: None)
    for began, noted in (({"cpu": "First"}, {"cpu": "Other"}), ({"cpu": "Other"}, None)):
        found = tune.tune(
            tuning(machine=began), entry, settings, [{"drift": 0.4}], tmp_path, data_root=None, display=display
        )
        assert [t.machine for t in found.trials] == [noted]


def test_every_trial_is_paid_for_also_one_that_lost() -> None:
    found = tuning(trial(0), trial(1, reason="invalid"), trial(2, None, status="failed", reason="x", spent=None))
    assert (found.samples, found.forward_macs, found.duration_s) == (20, 2000, 2.0 + 2.0 + 5.0)
    assert found.energy_j("modelled") == 6.0
    assert found.energy_j("measured") is None


def test_it_is_stored_and_read_again(tmp_path: Path) -> None:
    found = tuning(trial(0), trial(1, None, status="failed", reason="x", spent=None))
    assert read_tuning(write_tuning(found, tmp_path)) == found


def test_the_entry_to_paste_is_toml_of_the_chosen_options_and_the_suites_others() -> None:
    entry = MethodEntry.model_validate({"name": "slimming", "label": "slim", "options": {"strength": 1e-5}})
    found = tuning(trial(0), method="slim")
    own = entry.options.model_dump(mode="json")
    (pasted,) = tomllib.loads(tune.toml_entry(found, own, {"drift": 0.8}))["methods"]
    assert pasted == {"name": "slimming", "label": "slim", "options": {"strength": 1e-5, "drift": 0.8}}
    more = {"drift": 0.8, "shape": "\U0001f600", "widths": {"first": 3}}  # as a method of somebody else may have
    (pasted,) = tomllib.loads(tune.toml_entry(found, own, more))["methods"]
    assert pasted["options"] == {"strength": 1e-5, **more}


# From start to end


@pytest.fixture(scope="module")
def search(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A search of two trials, prolonged by a third."""
    folder = tmp_path_factory.mktemp("search")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workplace)
        patch.setenv("OMP_NUM_THREADS", "1")
        command = ["tune", "tiny.toml", "--method", "slimming", "--out", str(folder), "--epochs", "1"]
        codes = [main([*command, "--trials", "2"])]
        path = folder / "tiny" / "tune-slimming-0.5-s0" / "tune.json"
        first = read_tuning(path)
        codes.append(main([*command, "--trials", "3"]))
    return SimpleNamespace(folder=folder, path=path, codes=codes, first=first, all=read_tuning(path))


def test_a_search_stores_its_trials_and_goes_on(search: SimpleNamespace) -> None:
    assert search.codes == [0, 0]
    assert [t.number for t in search.all.trials] == [0, 1, 2]
    assert search.all.trials[:2] == search.first.trials  # kept, not run again
    assert all(t.eligible and 0.48 <= t.kept <= 0.5 for t in search.all.trials)
    assert search.all.trials[0].options == {n: getattr(Slimming.Options(), n) for n in search.all.space}
    assert search.all.samples == 3 * 20 * 64
    assert search.all.energy_j("modelled") > 0 or search.all.energy_j("measured") > 0


def test_the_test_set_has_no_part_in_it(search: SimpleNamespace) -> None:
    assert "test_score" not in search.path.read_text()
    assert not list(search.folder.glob("**/record.json"))
    assert not list(search.folder.glob("**/model.safetensors"))


def test_a_trial_does_not_look_at_the_test_images(
    at_work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from greenprune.bench.data.load import load
    from greenprune.bench.plan.plan import plan
    from greenprune.bench.run import trial as one_trial
    from greenprune.bench.run.job import Job
    from greenprune.bench.run.keeping import keeper_of

    from tests.bench.training.test_loop import Untouchable

    suite = load_suite("tiny.toml").model_copy(update={"methods": (MethodEntry(name="dynamic"),)})
    data = load("digits")
    (run,) = plan(suite, {"digits": data}, "cpu")
    settings = run.settings.model_copy(update={"budget": 0.9})
    told: dict[str, Any] = {}
    untouchable: Any = Untouchable()
    monkeypatch.setattr(one_trial, "load_again", lambda *_: dataclasses.replace(data, test=untouchable))
    job = Job(
        suite="", key="", settings=settings, data_root=None, folder=str(tmp_path), command="", trial=True
    )  # fmt: skip
    one_trial.trial(job, lambda event, **values: told.update({event: values}))
    assert 0 <= told["trial"]["holdout_score"] <= 1
    place = tmp_path / "suite" / "tune-dynamic-0.9-s0" / "trial-0"
    assert keeper_of(job.model_copy(update={"folder": str(place)}), Identity()).suite == tmp_path / "suite"


def test_a_search_of_other_settings_is_refused_and_left_alone(
    search: SimpleNamespace, at_work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = search.path.read_bytes()
    assert main(["tune", "tiny.toml", "--method", "slimming", "--out", str(search.folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "was searched with other settings (training.epochs: 1 -> 2)" in line
    assert search.path.read_bytes() == before


# What is refused


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--method", "dense"], "--method dense: dense declares no options to choose"),
        (["--method", "slimmin"], "--method slimmin: suite tiny has no such method, and none is called so; allowed: "),
        (["--method", "slimming", "--budget", "0.4"], "--budget 0.4: allowed are the budgets of the suite, 0.5"),
        (["--method", "slimming", "--seed", "-1"], "--seed -1: allowed is an integer at least 0"),
        (["--method", "slimming", "--trials", "0"], "--trials 0: allowed is at least 1"),
        (["--method", "slimming", "--epochs", "0"], "--epochs 0: allowed is at least 1, the warm-up"),
        (
            ["--method", "slimming", "--epochs", "99999999999"],
            "--epochs 99999999999: allowed is at least 1, the warm-up, and at most 1000000",
        ),
        (
            ["--method", "slimming", "--seed", "4294967296"],
            "--seed 4294967296: allowed is an integer at least 0 and below",
        ),
        (["--method", "slimming", "--jobs", "1000"], "--jobs 1000: allowed is 1 to "),
        (
            ["--method", "magnitude_unstructured", "--set", "cost=latency"],
            '--method magnitude_unstructured: cost = "latency": magnitude_unstructured cannot keep such a budget',
        ),
    ],
)
def test_bad_input_is_one_sentence(
    at_work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main(["tune", "tiny.toml", *arguments, "--out", str(tmp_path), "--device", "cpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"greenprune: {sentence}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ({"drft": (1.0,)}, "--method slimming: tuning of slimming: drft = 1.0: it has no such option"),
        ({"drift": (-1.0,)}, "--method slimming: tuning of slimming: drift = -1.0: Input should be greater than or"),
    ],
)
def test_a_space_that_the_method_does_not_have_is_named(
    at_work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    space: dict[str, Any], sentence: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(Slimming, "tuning", space)
    assert main(["tune", "tiny.toml", "--method", "slimming", "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"greenprune: {sentence}")


def test_a_damaged_search_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tune.json"
    path.write_text("{")
    with pytest.raises(tune.UserError, match=r"tune\.json: not a search of `greenprune tune`, its JSON is broken"):
        read_tuning(path)
    path.write_text('{"schema_version": 1}')
    with pytest.raises(tune.UserError, match="suite: Field required"):
        read_tuning(path)
    with pytest.raises(ValidationError):
        tuning(trial(0), trial="x")


# Which trial is the best


@pytest.mark.parametrize(("higher", "best"), [(True, 2), (False, 1)])
def test_the_best_trial_follows_the_direction_of_the_score(higher: bool, best: int) -> None:
    score = Score(name="figure", higher_is_better=higher)
    trials = [trial(0, 0.5), trial(1, 0.4), trial(2, 0.9), trial(3, 0.1, reason="kept too much"), trial(4, None)]
    found = tuning(*trials, score=score)
    assert found.best is not None
    assert found.best.number == best
    assert [t.number for t in found.ranked] == ([2, 0, 1, 4, 3] if higher else [1, 0, 2, 4, 3])
