"""A command that `greenprune energy` has measured: its files, and its part of a report."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from greenprune.bench.cli.energy import measure
from greenprune.bench.cli.main import main
from greenprune.bench.energy.carbon.intensity import GridIntensity
from greenprune.plots.report.energy_rows import CODECARBON_COLUMNS, COLUMNS

from tests.plots.records import grid, store

FRANCE = GridIntensity("FRA", 50.0, "a test")
BURN = "import time\nwhile time.process_time() < 0.3: pass"


@pytest.fixture
def measured(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    """The JSON file of a real command, and beside it its CSV file."""
    path = tmp_path / "e.json"
    assert measure([sys.executable, "-c", BURN], FRANCE, json_path=path, csv_path=path.with_suffix(".csv")) == 0
    capfd.readouterr()
    return path


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_a_measured_command_has_what_reporting_asks_for(measured: Path) -> None:
    (row,) = [row for row in _rows(measured.with_suffix(".csv")) if row["kind"] == "modelled"]
    assert set(CODECARBON_COLUMNS) <= set(row)
    told = json.loads(measured.read_text(encoding="utf-8"))
    joules = sum(s["energy_j"] for s in told["reading"]["sources"] if s["kind"] == "modelled")
    assert float(row["energy_consumed"]) == pytest.approx(joules / 3.6e6)
    assert float(row["emissions"]) == pytest.approx(joules / 3.6e6 * 0.050)
    assert float(row["energy_low_kwh"]) < float(row["energy_consumed"]) < float(row["energy_high_kwh"])
    assert float(row["duration"]) > 0
    assert (row["country_iso_code"], row["grid_source"], row["pue"]) == ("FRA", "a test", "1.0")
    for name in ("timestamp", "os", "python_version", "cpu_count", "cpu_model", "ram_total_size", "greenprune_version"):
        assert row[name], name
    assert "process_time" in row["command"]


@pytest.mark.usefixtures("no_figures")
def test_it_joins_the_report_of_results(measured: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    results = store(tmp_path / "results", *grid())
    assert main(["report", str(results), str(measured), "--out", str(tmp_path / "out")]) == 0
    assert "gated" in capfd.readouterr().out
    rows = _rows(tmp_path / "out" / "energy.csv")
    assert list(rows[0]) == list(COLUMNS)
    assert {row["phase"] for row in rows} == {"training", "command"}
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    section = html[html.index("Measured commands") : html.index('<section id="cifar10-cpu">')]
    assert "50 g/kWh, FRA (a test)" in section
    assert "process_time() &lt; 0.3" in section  # escaped
    assert "Example CPU" not in section
    kwh = [row["energy_consumed"] for row in rows if row["phase"] == "command"]
    assert all(f'data-number="{value}"' in section for value in kwh)


def test_it_makes_a_report_alone(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(measured)]) == 0
    files = {path.name for path in (tmp_path / "report").iterdir()}
    assert files == {"energy.json", "energy.csv", "report.html"}
    html = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "<title>greenprune: measured commands</title>" in html
    assert "There is no finished run" not in html


CPU: dict[str, Any] = {"name": "cpu", "kind": "modelled", "energy_j": 1.0}
READING: dict[str, Any] = {"name": "command", "duration_s": 1.0, "sources": [CPU]}
GOOD: dict[str, Any] = {"command": "true", "reading": READING}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "its JSON is broken"),
        ("[]", "has no command"),
        (json.dumps({"command": "true"}), "has no reading"),
        (json.dumps(GOOD | {"reading": {"name": "command"}}), "its readings are not what greenprune writes"),
        (json.dumps(GOOD | {"reading": GOOD["reading"] | {"duration_s": "long"}}), "reading.duration_s = long: "),
        (json.dumps(GOOD | {"grid": "FRA"}), "grid = FRA: is no object"),
        (json.dumps(GOOD | {"hardware": {"cpu": 5}}), "hardware.cpu = 5: "),
        (json.dumps(GOOD | {"grid": {"country": "FRA", "cloud": [1, 2]}}), "grid.cloud.0 = 1: "),
        (json.dumps(GOOD | {"grid": {"gco2e_per_kwh": float("nan")}}), "grid.gco2e_per_kwh = nan: "),
        (json.dumps(GOOD | {"pue": float("nan")}), "pue = nan: "),
        (json.dumps(GOOD | {"pue": 0.5}), "pue = 0.5: "),
        (
            json.dumps(GOOD | {"reading": READING | {"sources": [CPU | {"energy_j": math.nan}]}}),
            "reading.sources.0.energy_j is nan",
        ),
        (
            json.dumps(GOOD | {"reading": READING | {"sources": [CPU | {"energy_j": math.inf}]}}),
            "reading.sources.0.energy_j is inf",
        ),
        (
            json.dumps(GOOD | {"reading": READING | {"sources": [CPU | {"energy_j": -5.0}]}}),
            "reading.sources.0.energy_j = -5.0: ",
        ),
        (json.dumps(GOOD | {"reading": READING | {"duration_s": -1.0}}), "reading.duration_s = -1.0: "),
    ],
)
def test_another_file_is_refused_in_one_sentence(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "e.json"
    path.write_text(content)
    assert main(["report", str(path), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith(f"greenprune: {path}: {said}")
    assert "allowed: results folders, and files of `greenprune energy --json`" in line
    assert captured.out == ""
    assert not (tmp_path / "out").exists()


def test_the_smallest_good_file_is_enough(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text(json.dumps(GOOD))
    assert main(["report", str(tmp_path / "e.json"), "--out", str(tmp_path / "out")]) == 0
    (row,) = _rows(tmp_path / "out" / "energy.csv")
    assert (row["emissions"], row["cpu_model"]) == ("", "")
