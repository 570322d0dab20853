"""A CSV file that several runs append to, also at the same time."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from greenprune.bench.cli.saving import Rows, check_outputs, followed
from greenprune.bench.errors import UserError
from greenprune.bench.records.stored import write_atomically
from greenprune.plots.report.energy_rows import COLUMNS


def row(command: str, duration: float = 1.0) -> dict[str, object]:
    return {"command": command, "run_id": command, "kind": "modelled", "duration": duration}


def commands(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return [found["command"] for found in csv.DictReader(file)]


def test_runs_are_appended_under_one_header(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    for name in ("first", "sec,ond", 'th"ird\nwith a line'):
        Rows(path).save([row(name)])
    assert commands(path) == ["first", "sec,ond", 'th"ird\nwith a line']
    assert path.read_text().count("timestamp") == 1


def test_a_later_save_takes_the_place_of_the_runs_earlier_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    mine, other = Rows(path), Rows(path)
    mine.save([row("mine", 1.0)])
    other.save([row("other")])
    mine.save([row("mine", 2.0)])
    assert commands(path) == ["other", "mine"]
    with path.open(newline="") as file:
        assert [found["duration"] for found in csv.DictReader(file)] == ["1.0", "2.0"]


def _save_often(path: Path, name: str) -> None:
    rows = Rows(path)
    for i in range(20):
        rows.save([row(name, float(i))])


def test_two_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    context = multiprocessing.get_context("fork")
    each = [context.Process(target=_save_often, args=(path, f"run {i}")) for i in range(3)]
    for process in each:
        process.start()
    for process in each:
        process.join()
        assert process.exitcode == 0
    assert sorted(commands(path)) == ["run 0", "run 1", "run 2"]
    assert path.read_text().count("timestamp") == 1


@pytest.mark.parametrize("held", ["a,b\n1,2\n", "timestamp\n", "one line", pytest.param("x" * 131_073, id="long")])
def test_a_file_of_other_columns_is_refused_and_kept(held: str, tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text(held)
    with pytest.raises(UserError, match="holds other columns"):
        Rows(path)
    assert path.read_text() == held


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is no text"):
        Rows(tmp_path / "e.csv")


def test_the_last_line_need_not_have_ended(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    Rows(path).save([row("first")])
    path.write_text(path.read_text().rstrip("\n"))
    Rows(path).save([row("second")])
    assert commands(path) == ["first", "second"]


def test_two_runs_of_the_command_line_are_two_rows_with_the_time_of_their_end(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-m", "greenprune", "energy", "--csv", str(path), "--json", str(tmp_path / "e.json"), "--",
             "sleep", "1.2"],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
    with path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert list(first) == list(COLUMNS)
    assert first["run_id"] != second["run_id"]
    assert (first["exit_code"], second["exit_code"]) == ("0", "0")
    started = datetime.fromisoformat(json.loads((tmp_path / "e.json").read_text())["started_at"])
    assert (datetime.fromisoformat(second["timestamp"]) - started).total_seconds() >= 1


def test_a_link_stays_a_link_and_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    link, real = tmp_path / "link.csv", tmp_path / "real.csv"
    link.symlink_to("real.csv")
    for name in ("first", "second"):
        Rows(link).save([row(name)])
    assert link.is_symlink()
    assert commands(real) == ["first", "second"]
    assert followed(link) == real
    with pytest.raises(FileNotFoundError) as error:
        write_atomically(Path("/proc/self/nothing/e.json"), "x")
    assert error.value.filename == "/proc/self/nothing/e.json"
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("protected", ["", "e.json"])
def test_what_is_write_protected_is_refused_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protected: str
) -> None:
    path, place = tmp_path / "e.json", tmp_path / protected
    path.touch()
    check_outputs({"--json": path, "--csv": None}, [])
    assert list(tmp_path.iterdir()) == [path]  # the trial leaves nothing behind
    monkeypatch.setattr(os, "access", lambda asked, _: asked != place)  # root may write everything
    with pytest.raises(UserError, match=rf"--json .*: cannot be written \({place} is write-protected\)"):
        check_outputs({"--json": path}, [])
