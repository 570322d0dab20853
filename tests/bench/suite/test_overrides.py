"""What the command line changes in a suite, and suites of several data sets and networks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened
from greenprune.bench.records.load import read_record
from greenprune.bench.suite.file import load_suite
from greenprune.bench.suite.overrides import overrides_of
from greenprune.bench.suite.suite import Suite
from greenprune.plots.report.regressions import compare_folders

from tests.conftest import FIGURES, SUITE


def changed(*settings: str, seeds: Sequence[int] | None = None, name: str | None = None) -> Suite:
    return load_suite("paper-cpu", overrides_of(settings, seeds, name))


def test_keys_are_changed_and_all_others_stay() -> None:
    suite = changed("training.epochs=24", "methods.gated.options.drift = 5.5", seeds=[9, 10], name="longer")
    assert (suite.name, suite.seeds, suite.training.epochs) == ("longer", (9, 10), 24)
    assert {m.label: m.options for m in suite.methods}["gated"].drift == 5.5  # type: ignore[attr-defined]
    whole = load_suite("paper-cpu")
    own = {"name", "seeds", "training", "methods"}
    assert suite.model_dump(exclude=own) == whole.model_dump(exclude=own)
    assert suite.training.model_copy(update={"epochs": 8}) == whole.training


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("dataset=cifar100", ("cifar100",)),
        ('dataset="cifar100"', ("cifar100",)),
        ('dataset=["cifar10", "cifar100"]', ("cifar10", "cifar100")),
        ("budgets=[0.3, 0.5]", (0.3, 0.5)),
        ("train_images=9000", 9000),
        ("measurement.country=FRA", "FRA"),
        ("training.augment=none", ("none",)),
        ("allowance.samples=400000", 400_000),  # a table that the file does not have
    ],
)
def test_values_are_those_of_toml_and_words_need_no_quotes(text: str, value: object) -> None:
    found: object = changed(text)
    for key in text.partition("=")[0].split("."):
        found = getattr(found, key)
    assert found == value


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["training.epochs=0"], "training.epochs = 0: is too small; allowed: an integer at least 1"),
        (["training.schedule=cosin"], 'training.schedule = "cosin": is unknown; allowed: "linear", "cosine", "step", '),
        (["epochs=3"], "epochs = 3: unknown key; allowed: name, description, dataset, "),
        (["model=resnt20"], 'model = "resnt20" is unknown (did you mean "resnet20"?); allowed are resnet20, '),
        (['model=["resnet20","resnt20"]'], 'model = "resnt20" is unknown (did you mean "resnet20"?); allowed are resnet20, '),
        (["dataset=cifar1"], 'dataset = "cifar1": is unknown; allowed: digits, cifar10, cifar100, '),
        (['dataset=["digits", "cifar"]'], 'dataset[1] = "cifar": is unknown; allowed: digits, cifar10, cifar100, '),
        (["dataset=[]"], "dataset = []: is empty; allowed: digits, cifar10, cifar100, "),
        (["dataset=3"], "dataset = 3: is no name and no table; allowed: digits, cifar10, cifar100, "),
        (["methods.gatd.options.drift=3"], 'methods has no gatd; allowed: dense, gated, magnitude'),
        (["methods.gated=3"], "gated is a table; allowed: a key of it, such as gated.options.KEY"),
        (["methods.gated.options.drft=3"], "methods[1].options.drft = 3: unknown key; allowed: "),
        (["name.first=3"], 'name = "paper-cpu" is no table, so nothing is below it'),
        (["budgets=[0.5, 0.50000001]"], "budgets = [0.5, 0.50000001]: the runs of 0.5 and 0.50000001 would"),
        (["seeds"], "allowed is KEY=VALUE, such as training.epochs=24"),
        (["seeds="], "allowed is KEY=VALUE, such as training.epochs=24"),
        (["a b=1"], "a b is no key; allowed: names with dots between them, such as training.epochs"),
        (["seeds=[1, 2"], "[1, 2 is no TOML value; allowed: a number, true or false, a word, "),
        (["seeds=1\nname=3"], "1 name=3 is no TOML value; "),
        (["seeds=" + "[" * 5000], "no TOML value"),
        (["seeds=[1]", "seeds=[2]"], "--set seeds=[1] sets seeds too; allowed: each key once"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_the_words_of_the_file_after_the_option(texts: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        changed(*texts)
    assert str(caught.value).startswith(f"--set {shortened(texts[-1])}: ")
    assert sentence in str(caught.value)


def test_several_mistakes_are_said_at_once_each_after_its_own_option(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(SUITE.replace("batch_size = 64", "batch_size = 0").replace("tiny_networks:tiny", "resnet20"))
    with pytest.raises(UserError) as caught:
        load_suite(str(path), overrides_of(["training.epochs=-1"], [1, 1], "A"))
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [
        "--name", "--seeds", "--set training.epochs=-1", str(path)
    ]  # fmt: skip


def test_time_grows_with_the_number_of_seeds_and_not_with_its_square() -> None:
    def took_s(count: int) -> float:
        overrides = overrides_of((), range(count))
        started_s = time.process_time()
        load_suite("paper-cpu", overrides)
        return time.process_time() - started_s

    few, many = min(took_s(4_000) for _ in range(3)), min(took_s(64_000) for _ in range(3))
    assert many < 16 * 5 * few  # the square would be 256


def test_runs_of_a_matrix_are_called_by_what_the_suite_has_several_of() -> None:
    assert {p.prefix for p in changed().pairs} == {""}
    assert [p.prefix for p in changed('dataset=["digits", "cifar10"]').pairs] == ["digits-", "cifar10-"]
    both = changed('dataset=["digits", "cifar10"]', 'model=["resnet20", "torchvision/resnet18"]')
    assert [p.prefix for p in both.pairs] == [
        "digits-resnet20-", "digits-torchvision-resnet18-", "cifar10-resnet20-", "cifar10-torchvision-resnet18-",
    ]  # fmt: skip


MODELS = 'model=["tiny_networks:tiny", "more_networks:other"]'
MATRIX = ["tiny.toml", "--set", MODELS, "--only", "dense", "magnitude"]


@pytest.fixture(scope="module")
def ran(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A matrix of two networks, run, changed by the command line."""
    names = "from tiny_networks import tiny\n\ndef other(classes):\n    return tiny(classes)\n"
    (workplace / "more_networks.py").write_text(names)
    out = tmp_path_factory.mktemp("matrix")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workplace)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr(FIGURES, ())
        assert main(["run", *MATRIX, "--set", "training.epochs=1", "--name", "both", "--out", str(out)]) == 0
    return out / "both"


def test_a_matrix_is_run_and_measured_in_one_folder(ran: Path) -> None:
    keys = sorted(path.parent.name for path in ran.glob("*/record.json"))
    assert keys == [
        "more_networks-other-dense-1-s0", "more_networks-other-magnitude-0.5-s0",
        "tiny_networks-tiny-dense-1-s0", "tiny_networks-tiny-magnitude-0.5-s0",
    ]  # fmt: skip
    record = read_record(ran / keys[0] / "record.json")
    assert record.pair == ("digits", "more_networks:other")
    assert set(record.overrides) == {
        'name = "both"', "training.epochs = 1", 'model = ["tiny_networks:tiny", "more_networks:other"]'
    }  # fmt: skip
    measured = sorted(path.name for path in ran.glob("inference*"))
    assert measured == ["inference-digits-more_networks-other.json", "inference-digits-tiny_networks-tiny.json"]


def test_its_report_shows_each_network_apart_and_what_was_changed(ran: Path) -> None:
    html = (ran / "report.html").read_text()
    for model in ("tiny_networks:tiny", "more_networks:other"):
        assert f"both, digits on {model}" in html
    assert "training.epochs = 1" in html
    table = (ran / "table.csv").read_text().splitlines()
    assert len(table) == 1 + 4
    assert {"dataset", "model"} < set(table[0].split(","))


def test_a_matrix_is_compared_network_by_network(ran: Path) -> None:
    found = compare_folders(ran, ran)
    assert not found.regressed
    assert [(c.suite, c.method) for c in found.changes if c.name.startswith("accuracy")] == [
        (f"both, digits on {model}", method)
        for model in ("more_networks:other", "tiny_networks:tiny")
        for method in ("dense", "magnitude")
    ]


def test_a_matrix_goes_on_and_is_not_run_again(ran: Path, at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in ran.glob("*/record.json")}
    assert main(["run", *MATRIX, "--set", "training.epochs=1", "--name", "both", "--out", str(ran.parent)]) == 0
    assert "4 complete before, kept" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in ran.glob("*/record.json")} == before


def test_tune_takes_one_network_of_a_matrix(ran: Path, at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "tiny.toml",
        "--set",
        MODELS,
        "--set",
        "training.epochs=1",
    ]
    tune = ["tune", *arguments, "--method", "magnitude", "--trials", "1", "--out", str(ran.parent), "--name", "both"]
    assert main([*tune, "--model", "more_network:other"]) == 2
    assert (
        'allowed: tiny_networks:tiny, more_networks:other (did you mean "more_networks:other"?)'
        in capsys.readouterr().err
    )
    assert main([*tune, "--model", "more_networks:other"]) == 0
    assert (ran / "tune-more_networks-other-magnitude-0.5-s0" / "tune.json").is_file()
