"""The command line: bad input gives one clear sentence and exit code 2; the commands that run nothing print right."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import jsonschema
import pytest
import torch
from greenprune.bench.cli.arguments import typed
from greenprune.bench.cli.main import main
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import write_record
from greenprune.bench.verify.folder import Verified

from tests.bench.data.cifar import encode, noise, write
from tests.conftest import SUITE, Story
from tests.plots.records import record, store

Refusal = Callable[..., str]
Unread = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refusal:
    """Runs a command that has to be refused; gives the one sentence that it says about it."""
    monkeypatch.chdir(tmp_path)

    def refused(*arguments: object) -> str:
        assert main([str(a) for a in arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        (line,) = captured.err.splitlines()
        assert line.startswith("greenprune: ")
        return line.removeprefix("greenprune: ")

    return refused


@pytest.fixture
def suite(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes SUITE with one change."""

    def written(old: str, new: str) -> Path:
        assert SUITE.count(old) == 1
        path = tmp_path / "mine.toml"
        path.write_text(SUITE.replace(old, new).replace("tiny_networks:tiny", "resnet20"))
        return path

    return written


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suite: Callable[[str, str], Path]) -> Path:
    """A data folder with a few images as cifar10 in three Parquet files, and tmp_path/mine.toml that asks for them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    suite('"digits"', '"cifar10"')
    pixels, labels = noise(30)
    for name, rows in (("train-00000-of-00002", slice(0, 10)), ("train-00001-of-00002", slice(10, 20)),
                       ("test-00000-of-00001", slice(20, 30))):  # fmt: skip
        images: list[bytes | None] = [encode(p) for p in pixels[rows]]
        write(tmp_path / "data" / "cifar10" / f"{name}.parquet", images, {"label": labels[rows]})
    return tmp_path / "data"


# Suites. Everything that can be wrong inside one is in test_mistakes.py.


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_missing_suite(command: str, refusal: Refusal) -> None:
    line = refusal(command, "quickstrat")
    assert line.startswith("quickstrat: no such suite; allowed: ")
    assert line.endswith('(did you mean "quickstart"?)')


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("[0.5]", "[0.5", ("not TOML: ", "line 5")),
        ('"gated"', '"gatd"', ('methods[1].name = "gatd": is unknown', '"magnitude", "magnitude_unstructured"')),
        (
            'model = "tiny_networks:tiny"',
            'model = "resnet21"',
            ('model = "resnet21" is unknown', "allowed are resnet20"),
        ),
        ('"digits"', '"digit"', ('dataset = "digit": is unknown', "allowed: digits, cifar10")),
        ("[0.5]", "[0]", ("budgets[0] = 0: is too small", "a number above 0 and below 1")),
        ("[0.5]", "[1.5]", ("budgets[0] = 1.5: is too large", "a number above 0 and below 1")),
        ("[0.5]", '["half"]', ('budgets[0] = "half": is not a number', "a number above 0 and below 1")),
        ("[0.5]", "[0.5]\nbudget = 1", ("budget = 1: unknown key", 'did you mean "budgets"')),
    ],
)
def test_a_bad_suite(
    old: str, new: str, parts: tuple[str, ...], suite: Callable[[str, str], Path], refusal: Refusal
) -> None:
    path = suite(old, new)
    line = refusal("run", path)
    assert line.startswith(f"{path}: ")
    assert [part for part in parts if part not in line] == []


def test_several_problems_are_a_line_each(
    suite: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = suite("[0.5]", "[1.5, 0]")
    assert main(["run", str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": is ")[0] for line in lines] == [
        f"greenprune: {path}: budgets[0] = 1.5",
        f"greenprune: {path}: budgets[1] = 0",
    ]


# Data. Everything else that can be wrong with files is in test_data.py.


def test_a_missing_data_folder(cifar: Path, tmp_path: Path, refusal: Refusal) -> None:
    line = refusal("run", tmp_path / "mine.toml", "--data", tmp_path / "nowhere")
    assert line.startswith(f"{tmp_path / 'nowhere'}: there is no such data folder")
    assert "--data" in line


def test_a_truncated_parquet_file(cifar: Path, tmp_path: Path, refusal: Refusal) -> None:
    shard = cifar / "cifar10" / "train-00001-of-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-50])
    assert refusal("run", tmp_path / "mine.toml", "--data", cifar).startswith(f"{shard}: ")


def test_a_missing_parquet_file(cifar: Path, tmp_path: Path, refusal: Refusal) -> None:
    (cifar / "cifar10" / "train-00001-of-00002.parquet").unlink()
    assert "train-00001-of-00002" in refusal("run", tmp_path / "mine.toml", "--data", cifar)


def test_a_label_outside_the_classes(cifar: Path, tmp_path: Path, refusal: Refusal) -> None:
    shard = cifar / "cifar10" / "test-00000-of-00001.parquet"
    write(shard, [encode(p) for p in noise(2)[0]], {"label": [9, 10]})
    line = refusal("run", tmp_path / "mine.toml", "--data", cifar)
    assert line == f"{shard}, row 1: label = 10; allowed is 0 to 9"


# Options


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_cuda_without_cuda(refusal: Refusal) -> None:
    line = refusal("run", "quickstart", "--device", "cuda")
    assert line == "--device cuda: this PyTorch finds no CUDA device; allowed here: cpu, auto"


def test_an_unknown_device(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["run", "quickstart", "--device", "tpu"])
    assert caught.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "--device: invalid choice: 'tpu'" in last
    assert "'auto', 'cpu', 'cuda'" in last or "auto, cpu, cuda" in last


def test_an_unknown_country(refusal: Refusal) -> None:
    line = refusal("run", "quickstart", "--country", "XXX")
    assert line.startswith('country = "XXX" is not an ISO 3166 alpha-3 code that CodeCarbon has data for (nearest: ')


def test_a_method_that_the_suite_does_not_have(refusal: Refusal) -> None:
    line = refusal("run", "quickstart", "--only", "gatd")
    assert line.startswith(
        "--only gatd: suite quickstart has no such method; allowed: dense, uniform, gated, magnitude"
    )
    assert 'did you mean "gated"' in line


@pytest.mark.parametrize("below", [("a file",), ("a file", "deeper")])
def test_an_unwritable_results_folder(below: tuple[str, ...], tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "a file").touch()
    out = tmp_path.joinpath(*below)
    line = refusal("run", "quickstart", "--out", out)
    assert line.startswith(f"--out: {out / 'quickstart'} cannot be written (")
    assert "choose a folder of your own with --out" in line


# Results


@pytest.fixture
def newer(story: Story, tmp_path: Path) -> Path:
    """tmp_path/tiny with one record, of dense, that a later version has written."""
    data = json.loads((story.folder / "dense-1-s0" / "record.json").read_text())
    path = tmp_path / "tiny" / "dense-1-s0" / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(data | {"schema_version": 99, "news": 1}))
    return path


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_record_of_a_newer_schema(
    command: str, newer: Path, at_work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = newer.read_bytes()
    assert main([command, "tiny.toml", "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"greenprune: {newer}: schema_version = 99 is newer than this greenprune understands (")
    assert newer.read_bytes() == before


def test_a_report_of_a_newer_schema_alone(newer: Path, tmp_path: Path, refusal: Refusal) -> None:
    line = refusal("report", tmp_path / "tiny")
    assert line.startswith(f"{newer}: schema_version = 99 is newer than this greenprune understands (")
    assert not (tmp_path / "tiny" / "report.html").exists()


def test_a_report_shows_what_it_can_and_names_what_it_cannot(
    newer: Path, story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gated = read_record(story.folder / "gated-0.5-s0" / "record.json")
    write_record(gated, tmp_path / "tiny" / "gated-0.5-s0")
    assert main(["report", str(tmp_path / "tiny")]) == 2
    captured = capsys.readouterr()
    assert "gated" in captured.out
    assert (tmp_path / "tiny" / "table.csv").read_text().count("\n") == 2
    (line,) = captured.err.splitlines()
    assert line.startswith(f"greenprune: {newer}: schema_version = 99 is newer")


def test_a_report_of_a_missing_and_of_an_empty_folder(tmp_path: Path, refusal: Refusal) -> None:
    missing = tmp_path / "missing"
    assert refusal("report", missing) == f"{missing}: there is no such results folder"
    assert refusal("report", tmp_path).startswith(f"{tmp_path}: holds no records")


# What is printed


def test_the_schema_is_a_valid_json_schema_that_accepts_a_good_suite(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "budgets" in schema["properties"]


def test_the_plan_lists_every_run_and_what_became_of_it(
    tmp_path: Path, suite: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = suite("[0.5]\nseeds = [0]", "[0.5, 0.3]\nseeds = [0, 1]")
    store(tmp_path, record("dense", seed=1, suite="tiny", key="dense-1-s1"))
    assert main(["plan", str(path), "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    keys = {f"{run}-s{seed}" for run in ("dense-1", "gated-0.5", "gated-0.3", "magnitude-0.5", "magnitude-0.3")
            for seed in (0, 1)}  # fmt: skip
    assert {word for word in out.split() if word in keys} == keys
    assert out.count("to run") == 9 + 1  # each, and their number below the table
    assert "9 to run, about " in out
    (line,) = (line for line in out.splitlines() if "dense-1-s1" in line)
    assert "other settings" in line


@pytest.mark.parametrize("arguments", [(), ("run",), ("plan",), ("report",), ("schema",)])
def test_help_is_there(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(" ".join(["usage: greenprune", *arguments]))


def test_the_exit_code_reaches_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["greenprune", "run", "quickstrat"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("greenprune", run_name="__main__")
    assert caught.value.code == 2


def test_a_command_that_is_no_utf8_is_stored_as_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["greenprune", "run", "caf\udce9.toml", "--set", "description=a b"])
    assert typed() == r"greenprune run 'caf\udce9.toml' --set 'description=a b'"


def test_version_names_what_figures_depend_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("greenprune ")
    assert first.split()[1][0].isdigit()
    assert second.startswith("python 3.")
    assert f"torch {torch.__version__.split('+')[0]}" in second


# What nobody reads


def test_a_reader_that_went_away_is_no_regression(tmp_path: Path, unread: Unread) -> None:
    folder = str(store(tmp_path, record()))
    with unread():
        assert main(["compare", folder, folder]) == 141


def test_a_report_is_written_whoever_reads_its_table(tmp_path: Path, unread: Unread) -> None:
    with unread():
        assert main(["report", str(store(tmp_path, record()))]) == 141
    assert (tmp_path / "report.html").is_file()


def test_what_verify_found_is_written_whoever_reads_it(
    tmp_path: Path, unread: Unread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenprune.bench.verify.folder.verify", lambda *_, **__: Verified())
    with unread():
        assert main(["verify", str(tmp_path), "--json", str(tmp_path / "v.json")]) == 141
    assert json.loads((tmp_path / "v.json").read_text())["ok"]
