"""Suites from start to end in processes of their own, and what happens when one of these dies."""

from __future__ import annotations

import io
import os
import shutil
import signal
import stat
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

import pytest
import torch
from greenprune.bench.cli.main import main
from greenprune.bench.data.load import load
from greenprune.bench.engines.engine import Place
from greenprune.bench.engines.launch import Outcome, launch
from greenprune.bench.engines.local import Local
from greenprune.bench.plan.plan import plan
from greenprune.bench.records.load import read_record
from greenprune.bench.records.record import Failure, write_record
from greenprune.bench.suite.file import load_suite
from safetensors.torch import load_file

from tests.conftest import FIGURES, SUITE, Story, records
from tests.plots.records import of_dense

ROOT = Path(__file__).parents[3]

RUNS = {"dense-1-s0", "gated-0.5-s0", "magnitude-0.5-s0"}


def changed(*changes: tuple[str, str]) -> str:
    """SUITE with these changes."""
    text = SUITE
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


def without(*methods: str) -> tuple[tuple[str, str], ...]:
    """Changes of SUITE that leave methods out."""
    return tuple((f'[[methods]]\nname = "{method}"\n', "") for method in methods)


def failure(folder: Path, key: str) -> Failure:
    record = read_record(folder / key / "record.json")
    assert record.status == "failed"
    assert record.failure is not None
    return record.failure


class Silent:
    """A display that shows nothing."""

    def start(self, *_: object) -> None: ...
    def event(self, *_: object) -> None: ...
    def finish(self, *_: object) -> None: ...


@dataclass(frozen=True)
class Fated:
    """How a suite went of whose three runs of `gated` two have a fate."""

    folder: Path
    exit_code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def fated(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Fated:
    folder = tmp_path_factory.mktemp("fated")
    shutil.copy(workplace / "tiny_networks.py", folder)
    (folder / "fate.json").write_text('{"1": "crash", "2": "raise"}')
    (folder / "tiny.toml").write_text(changed(("seeds = [0]", "seeds = [0, 1, 2]"), *without("dense", "magnitude")))
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr(FIGURES, ())
        exit_code = main(["run", "tiny.toml"])
    return Fated(folder / "results" / "tiny", exit_code, out.getvalue(), err.getvalue())


# From start to end


def test_ctrl_c_ends_the_suite_with_130_and_without_a_traceback(at_work: Path, tmp_path: Path) -> None:
    (tmp_path / "long.toml").write_text(changed(("epochs = 2", "epochs = 1000"), *without("gated", "magnitude")))
    command = [sys.executable, "-m", "greenprune", "run", str(tmp_path / "long.toml"), "--out", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def heed() -> None:  # what a shell starts in the background ignores Ctrl-C, and so would all that we start
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command, stdout=PIPE, stderr=PIPE, text=True, env=environment, start_new_session=True, preexec_fn=heed
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert "[1/1] dense-1-s0" in run.stdout.readline()
        while "epoch 1/1000" not in run.stdout.readline():
            assert run.poll() is None
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: the launcher and its worker
        run.wait(timeout=60)
        assert run.returncode == 130
        err = run.stderr.read()
    assert err == "greenprune: interrupted; what was finished is kept, start it again to go on\n"
    assert not (tmp_path / "tiny/dense-1-s0/record.json").exists()
    assert not (tmp_path / "tiny/dense-1-s0/job.json").exists()


def test_a_suite_killed_in_the_middle_goes_on_where_it_stopped(story: Story) -> None:
    assert story.exit_code == 0, story.output
    assert len(story.complete_when_killed) == 1
    kept = records(story.folder)
    assert kept.keys() == RUNS
    assert kept.items() > story.complete_when_killed.items()  # byte by byte
    assert "[1/2] " in story.output
    assert f"1 complete before, kept: {next(iter(story.complete_when_killed))}" in story.output


def test_a_run_ends_with_the_launcher_that_started_it(story: Story) -> None:
    assert story.orphan_ended


def test_a_finished_suite_has_records_networks_tables_figures_and_a_page(story: Story) -> None:
    for key in RUNS:
        record = read_record(story.folder / key / "record.json")
        assert (record.status, record.valid, record.invalid_reason) == ("done", True, None)
        assert record.command == "greenprune run tiny.toml"
        assert (story.folder / key / "model.safetensors").stat().st_size > 0
    figures = {f"figures/{name}" for name in ("score_against_macs", "energy_per_method")}
    expected = {"table.csv", "table.md", "report.html", *(f"{f}.{end}" for f in figures for end in ("png", "svg"))}
    assert {name for name in expected if (story.folder / name).stat().st_size > 0} == expected
    assert [word in story.output for word in ("dense", "gated", "magnitude", "wrote ")] == [True] * 4


def test_a_finished_suite_is_not_run_again(story: Story, at_work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in story.folder.glob("*-*/*")}
    assert main(["run", "tiny.toml"]) == 0
    assert capsys.readouterr().out.startswith("3 complete before, kept: ")
    assert {path: path.stat().st_mtime_ns for path in story.folder.glob("*-*/*")} == before


def test_the_same_seed_gives_the_same_weights_bit_for_bit(story: Story, fated: Fated) -> None:
    """Although the rest of the two suites, and what happened to them, differ."""
    first, second = (load_file(f / "gated-0.5-s0/model.safetensors") for f in (story.folder, fated.folder))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


# What is refused before anything is spent


def test_records_of_other_settings_are_refused_and_left_alone(
    story: Story, at_work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = records(story.folder)
    suite = tmp_path / "longer.toml"
    suite.write_text(changed(("epochs = 2", "epochs = 3")))
    assert main(["run", str(suite)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is of another experiment (training.epochs: 2 -> 3)" in line
    assert "--out" in line
    assert records(story.folder) == before


def test_a_file_where_a_run_needs_a_folder_is_refused_and_left_alone(
    at_work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tiny/dense-1-s0"
    file.parent.mkdir()
    file.write_text("mine")
    assert main(["run", "tiny.toml", "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{file} is a file" in line
    assert file.read_text() == "mine"


# Runs that fail


def test_a_run_that_dies_is_recorded_and_the_others_go_on(fated: Fated) -> None:
    assert fated.exit_code == 1
    assert read_record(fated.folder / "gated-0.5-s0/record.json").status == "done"
    crashed = failure(fated.folder, "gated-0.5-s1")
    assert crashed.reason == "killed by signal 11 (SIGSEGV)"
    assert "3\nlast words\n" in crashed.last_output  # libraries may have said something before
    assert "Segmentation fault" in crashed.last_output  # and where it happened:
    assert "tiny_networks.py" in crashed.last_output
    raised = failure(fated.folder, "gated-0.5-s2")
    assert raised.reason == "RuntimeError: no luck today (exit code 1)"
    assert raised.last_output.splitlines()[-1] == "RuntimeError: no luck today"


def test_failures_are_named_beside_the_table_of_what_was_finished(fated: Fated) -> None:
    assert "failed: killed by signal 11 (SIGSEGV)" in fated.out
    assert "wrote " in fated.out
    assert (fated.folder / "table.csv").read_text().count("\n") == 2  # the heading and one run
    assert [line.split(": ")[1].rsplit("/")[-1] for line in sorted(fated.err.splitlines())] == [
        "gated-0.5-s1 failed",
        "gated-0.5-s2 failed",
    ]


@pytest.mark.parametrize(
    ("model", "method", "change", "reason"),
    [
        ("flat", "dense", ("epochs = 2", "epochs = 1\nlearning_rate = 1e35"), "the loss of epoch 1 is "),
        ("flat", "magnitude", (), "no channels of this network can be removed"),
        ("tiny", "magnitude", ("[0.5]", "[0.001]"), "keep = 0.001 lies below the floor of this network, "),
    ],
)
def test_a_run_without_a_result_says_why_in_a_sentence(
    at_work: Path, tmp_path: Path, model: str, method: str, change: tuple[str, str], reason: str
) -> None:
    others = without(*{"dense", "gated", "magnitude"} - {method})
    suite = tmp_path / "suite.toml"
    suite.write_text(changed((":tiny", f":{model}"), *others, *([change] if change else [])))
    assert main(["run", str(suite), "--out", str(tmp_path)]) == 1
    (path,) = (tmp_path / "tiny").glob("*/record.json")
    found = failure(tmp_path / "tiny", path.parent.name)
    assert found.reason.startswith(reason)
    assert "\n" not in found.reason
    assert "Traceback" not in found.last_output


@pytest.mark.parametrize(
    ("script", "reason", "last_output"),
    [
        ("echo stuck >&2; kill -9 $$", "killed by signal 9 (SIGKILL)", "stuck"),
        ('printf \'{"event": "prog\'; kill -15 $$', "killed by signal 15 (SIGTERM)", ""),
        ("for i in $(seq 100); do echo $i >&2; done; exit 7", "exit code 7", "\n".join(map(str, range(41, 101)))),
        ("exit 0", "exit code 0, but no result", ""),
    ],
)
def test_however_a_process_ends_it_is_recorded_in_words_and_tried_again(
    at_work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str, last_output: str
) -> None:
    data = {"digits": load("digits")}
    runs = plan(load_suite("tiny.toml"), data, "cpu")[:1]
    stand_in = tmp_path / "python"
    attempts = tmp_path / "attempts"
    stand_in.write_text(f"#!/bin/sh\necho >>{attempts}\n{script}\n")
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    folder = tmp_path / "results"
    for _ in range(2):  # what failed is tried again
        outcome = launch(
            "tiny", runs, folder, engine=Local(Place()), data_root=None, command="", display=Silent(), data=data
        )
        assert outcome == Outcome(finished=(), failed=(runs[0].key,), skipped=())
        assert failure(folder, runs[0].key) == Failure(reason=reason, last_output=last_output)
    assert attempts.read_text() == "\n\n"


def test_what_a_process_has_finished_counts_however_it_ends(
    at_work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, folder = {"digits": load("digits")}, tmp_path / "results"
    (run,) = (run for run in plan(load_suite("tiny.toml"), data, "cpu") if run.key == "dense-1-s0")
    stored = write_record(of_dense(run.key, run.settings.model_dump(mode="json")), tmp_path)
    stand_in = tmp_path / "python"
    stand_in.write_text(f"#!/bin/sh\ncp {stored} {folder / run.key}/record.json\nkill -ABRT $$\n")
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    outcome = launch(
        "tiny", [run], folder, engine=Local(Place()), data_root=None, command="", display=Silent(), data=data
    )
    assert outcome == Outcome(finished=(run.key,), failed=(), skipped=())
    assert (folder / run.key / "record.json").read_bytes() == stored.read_bytes()
