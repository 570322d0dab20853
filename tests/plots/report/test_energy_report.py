"""The energy report in the fields of others, the LaTeX table, and the published numbers."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from greenprune.bench.records.record import CrossCheck
from greenprune.plots.frame.comparison import comparison
from greenprune.plots.frame.load import load
from greenprune.plots.report.energy_report import crosscheck_text, energy_rows, totals
from greenprune.plots.report.energy_rows import (
    CODECARBON_COLUMNS,
    COLUMNS,
    csv_text,
    json_text,
    rows_of_command,
    rows_of_record,
)
from greenprune.plots.report.report import write_report
from greenprune.plots.tables.best import best_rows
from greenprune.plots.tables.latex import escaped, latex_text
from greenprune.plots.tables.published import PUBLISHED, load_published
from greenprune.plots.tables.tables import markdown_text

from tests.plots.records import grid, reading, record, source, store


def test_a_run_in_the_fields_that_reporting_needs() -> None:
    sources = (source(3.6e6, "measured", "nvml:0"), source(1.8e6, "modelled", "cpu"), source(3.6e5, "modelled", "ram"))
    run = record(energy={"training": reading(*sources, duration_s=100.0)})
    measured, modelled = rows_of_record(run)
    assert (measured["kind"], modelled["kind"]) == ("measured", "modelled")
    assert measured["energy_consumed"] == pytest.approx(1.0)  # kWh
    assert (measured["gpu_energy"], measured["cpu_energy"], measured["ram_energy"]) == (pytest.approx(1.0), None, None)
    assert modelled["cpu_energy"] == pytest.approx(0.5)
    assert modelled["ram_energy"] == pytest.approx(0.1)
    assert modelled["energy_consumed"] == pytest.approx(0.6)
    assert (modelled["energy_low_kwh"], modelled["energy_high_kwh"]) == pytest.approx((0.42, 0.84))
    assert measured["emissions"] == pytest.approx(0.381)  # kg, at 381 g/kWh
    assert measured["emissions_rate"] == pytest.approx(0.00381)
    assert (measured["duration"], measured["pue"], measured["country_iso_code"]) == (100.0, 1.0, "DEU")
    assert measured["grid_source"] == "CodeCarbon 3.3.2, country average"
    assert measured["cpu_model"] == "Example CPU 9000"
    assert measured["phase"] == "training"


@pytest.mark.usefixtures("no_figures")
def test_other_meters_stand_in_a_column_of_their_own_and_in_no_sum(tmp_path: Path) -> None:
    checks = (
        CrossCheck(tool="codecarbon", version="3", duration_s=120.0, cpu_j=7e3, ram_j=5.0, ours_j={"modelled": 4.0}),
        CrossCheck(tool="zeus", problem="Zeus: it found nothing"),
    )
    runs = grid(("dense", "gated"))
    plain = store(tmp_path / "plain", *runs)
    checked = store(tmp_path / "checked", *(run.model_copy(update={"crosscheck": checks}) for run in runs))
    assert energy_rows(load(checked)) == energy_rows(load(plain))
    assert crosscheck_text(checks) == (
        "CodeCarbon 3: CPU 7,000 J and memory 5.00 J over 2.00 min; ours then 4.00 J modelled. "
        "Zeus: no figure; ours then unknown"
    )
    for folder in (plain, checked):
        write_report([folder], folder)
    pages = [(folder / "report.html").read_text() for folder in (plain, checked)]
    assert ["Other meters beside, in no sum" in page for page in pages] == [False, True]
    assert pages[1].count("CodeCarbon 3: CPU") == 2
    assert any("Zeus: it found nothing" in str(problem) for problem in load(checked).problems)


def test_pue_multiplies_energy_and_emissions() -> None:
    run = record(energy={"training": reading(source(3.6e6))})
    assert run.emissions is not None
    centre = run.model_copy(update={"emissions": run.emissions.model_copy(update={"pue": 1.5})})
    (once,), (more,) = rows_of_record(run), rows_of_record(centre)
    for name in ("energy_consumed", "energy_low_kwh", "energy_high_kwh", "cpu_energy", "emissions"):
        assert more[name] == pytest.approx(1.5 * once[name])
    assert more["pue"] == 1.5


def test_an_invalid_source_has_no_row_and_an_unknown_grid_no_emissions() -> None:
    assert rows_of_record(record(energy={"training": reading(source(None))})) == []
    (row,) = rows_of_record(record(emissions=None, energy={"training": reading(source(3.6e6))}))
    assert row["energy_consumed"] == pytest.approx(1.0)
    assert row["emissions"] is None
    (total,) = totals([row])
    assert total["gco2e"] is None


def test_a_measured_command() -> None:
    stored = {
        "command": "python train.py",
        "exit_code": 0,
        "started_at": "2026-01-02T10:00:00+00:00",
        "version": "0.1.0",
        "reading": {
            "name": "command",
            "duration_s": 10.0,
            "sources": [
                {"name": "cpu", "kind": "modelled", "energy_j": 7.2e6, "low_j": 3.6e6, "high_j": 1.08e7, "valid": True,
                 "reason": None, "note": None, "uncertainty_j": 3.6e6, "net_j": None},
            ],
            "warnings": [],
        },
        "grid": {"country": "FRA", "gco2e_per_kwh": 50.0, "source": "CodeCarbon"},
    }  # fmt: skip
    (row,) = rows_of_command(stored)
    assert (row["energy_consumed"], row["energy_low_kwh"], row["energy_high_kwh"]) == pytest.approx((2.0, 1.0, 3.0))
    assert row["emissions"] == pytest.approx(0.1)
    assert (row["country_iso_code"], row["command"], row["phase"]) == ("FRA", "python train.py", "command")
    assert row["j_per_unit"] is None
    counted = {**stored, "reading": {**stored["reading"], "units": {"tokens": 3.6e5}}}
    (row,) = rows_of_command({**counted, "pue": 2.0})
    assert (row["unit"], row["unit_count"]) == ("tokens", 3.6e5)
    assert (row["low_j_per_unit"], row["j_per_unit"], row["high_j_per_unit"]) == (10.0, 20.0, 30.0)


def test_kinds_are_never_added_up(tmp_path: Path) -> None:
    rows = energy_rows(load(store(tmp_path, *grid(kinds=("measured", "modelled")))))
    sums = {total["kind"]: total["energy_kwh"] for total in totals(rows)}
    assert set(sums) == {"measured", "modelled"}
    assert sums["measured"] == pytest.approx(sum(r["energy_consumed"] for r in rows if r["kind"] == "measured"))


def test_files_hold_the_same_and_say_what_it_is(tmp_path: Path) -> None:
    rows = energy_rows(load(store(tmp_path, *grid())))
    stored = json.loads(json_text(rows))
    assert stored["fields"] == COLUMNS
    assert stored["rows"] == rows
    read = list(csv.DictReader(io.StringIO(csv_text(rows))))
    assert [float(row["energy_consumed"]) for row in read] == [row["energy_consumed"] for row in rows]
    assert list(read[0]) == list(COLUMNS)


def test_columns_are_codecarbons() -> None:
    data = pytest.importorskip("codecarbon.output_methods.emissions_data", reason="this CodeCarbon has no such class")
    assert set(CODECARBON_COLUMNS) <= set(data.EmissionsData.__dataclass_fields__)


def test_latex_is_rectangular_bold_and_marks_what_is_invalid(tmp_path: Path) -> None:
    invalid = record("uniform", valid=False, invalid_reason="kept too much", test_score=0.99)
    text = latex_text(comparison(load(store(tmp_path, *grid(seeds=3), invalid))))
    for table in text.split("\\begin{table}")[1:]:
        (columns,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", table)
        rows = [line for line in table.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(columns) - 1}
        assert table.count("{") - table.count(r"\{") == table.count("}") - table.count(r"\}")
        for rule in ("\\toprule", "\\midrule", "\\bottomrule"):
            assert table.count(rule) == 1
    accuracy = text.split("\\begin{table}")[1]
    (gated,) = [line for line in accuracy.splitlines() if line.startswith("gated")]
    (worst,) = [line for line in accuracy.splitlines() if line.startswith("magnitude")]
    assert "\\textbf{" in gated
    assert "\\textbf{" not in worst
    assert "\\textit{uniform (invalid)}" in accuracy
    assert "×" not in text
    assert "$\\times$" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex here")
def test_latex_compiles(tmp_path: Path) -> None:
    text = latex_text(comparison(load(store(tmp_path / "r", *grid(seeds=3)))))
    page = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}{text}\\end{{document}}"
    (tmp_path / "x.tex").write_text(page)
    done = subprocess.run(["pdflatex", "-halt-on-error", "x.tex"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_latex_shows_text_literally() -> None:
    assert escaped("a_b & 50 % #1 {x} ~^\\") == (
        r"a\_b \& 50 \% \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )


def test_best_of_each_budget_needs_an_opponent_and_validity(tmp_path: Path) -> None:
    runs = [
        record(test_score=0.99),
        record("gated", budget=0.3, test_score=0.80),
        record("gated", budget=0.5, test_score=0.85),
        record("magnitude", budget=0.5, test_score=0.86),
        record("uniform", budget=0.5, test_score=0.95, valid=False, invalid_reason="kept too much"),
    ]
    table = comparison(load(store(tmp_path, *runs)))
    names = [(table["method"].iloc[i], table["budget"].iloc[i]) for i in best_rows(table, "test_score_mean")]
    assert names == [("magnitude", 0.5)]
    assert best_rows(table, "kept_macs_percent_mean") == set()
    assert best_rows(table, None) == set()
    assert best_rows(table, "train_samples_ratio_mean") == set()  # all alike: nobody wins
    assert best_rows(table, "large_batch_energy_modelled_j_per_1000_images_mean") == set()  # of different times
    table["large_batch_latency_ratio_mean"] = [1.0, 0.4, 0.500, 0.504, 0.1]  # the last one is invalid
    assert best_rows(table, "large_batch_latency_ratio_mean") == set()  # they look alike
    table.loc[2, "large_batch_latency_ratio_mean"] = 0.48
    assert best_rows(table, "large_batch_latency_ratio_mean") == {2}
    line, _ = [line for line in markdown_text(table).splitlines() if line.startswith("| magnitude")]
    assert "**86.00**" in line


def test_published_numbers_agree_with_themselves() -> None:
    table = load_published()
    assert len(table) == len(PUBLISHED.read_text(encoding="utf-8").splitlines()) - 1 > 20
    assert (table["source"].str.len() > 10).all()
    known = table["delta_points"].notna()
    assert known.sum() == 10
    checked = table["accuracies_checked"].str.split(":").str[0]
    assert set(checked[table["pruned_percent"].isna()]) == {"no"}  # what nobody read again has no accuracies here
    assert set(checked[table["pruned_percent"].notna()]) == {"yes", "second-hand"}
    off = table[known & ((table["delta_points"] - table["stated_delta_points"]).abs() > 0.011)]
    assert list(off["method"]) == ["DepGraph (with sparse learning)"]
    assert off["note"].str.contains("printed difference does not fit").all()


def test_a_delta_is_recomputed_not_believed(tmp_path: Path) -> None:
    text = PUBLISHED.read_text(encoding="utf-8").replace("93.80,93.83,0.03", "93.80,93.90,0.03")
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    row = load_published(tmp_path / "p.csv").query("method == 'Polarization' and network == 'ResNet-56'").iloc[0]
    assert row["delta_points"] == pytest.approx(0.10)
    assert load_published(tmp_path / "none.csv").empty


def test_a_sum_that_lacks_runs_says_so_and_every_pue_is_named(tmp_path: Path) -> None:
    broken = {"energy": {"training": reading(source(None))}, "emissions": None}
    dense = record()
    assert dense.emissions is not None
    cooled = record("gated", emissions=dense.emissions.model_copy(update={"pue": 1.5}))
    store(tmp_path, dense, cooled, record("magnitude").model_copy(update=broken))
    write_report(load(tmp_path), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "of 2 of 3 readings: the others lack a sensor" in page
    assert "PUE used: 1 and 1.5." in page
