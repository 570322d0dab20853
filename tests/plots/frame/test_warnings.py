"""What the report warns about: each warning is known by what the meters really say, and comes with what to do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from greenprune.bench.energy.node.ranks import rank_warnings
from greenprune.bench.energy.nvml.state import warnings_of
from greenprune.bench.energy.nvml.verdict import decide
from greenprune.bench.energy.nvml.words import short
from greenprune.bench.energy.reading import CardState, Reporter
from greenprune.bench.machine.contention import Usage, contention
from greenprune.bench.records.record import RECORD_FILE, SCHEMA_VERSION
from greenprune.plots.frame.checks import check
from greenprune.plots.frame.load import load
from greenprune.plots.frame.problems import Problem, by_weight, counted, problems_of
from greenprune.plots.report.page import grouped
from greenprune.plots.report.report import write_report

from tests.plots.records import failed, grid, inference, reading, record, source, store

BEGIN = Usage(time_s=0.0, own_s=0.0, all_s=0.0, stolen_s=0.0)
BUSY = contention(BEGIN, replace(BEGIN, time_s=100.0, own_s=90.0, all_s=290.0), "training", cores=4)
HOT = warnings_of(CardState(throttled=("heat",)))
NEIGHBOUR = warnings_of(CardState(other_pids=(7,)))
DISAGREE = decide("A100", 187.0, 327.0, None, slack_j=5.0).basis
MODULE = decide("GH200", 1500.0, 1000.0, 1500.0, slack_j=5.0).basis
RANKS = rank_warnings(
    Reporter(node="node", local_rank=1, local_size=2, origin="LOCAL_RANK", reports=True),
    ["rapl:package-0"],
    None,
    {},
    alone=True,
)
SHORT = short(0.3, 0.1, "the energy counter's period")


def _training(*warnings: str, duration_s: float = 100.0):
    measured = source(100.0, "measured", "nvml:0", 0.9, 1.1)
    return record(energy={"training": reading(measured, duration_s=duration_s, warnings=warnings)})


@pytest.mark.parametrize(
    ("run", "kind", "detail", "remedy"),
    [
        (_training(f"nvml:0: {HOT[0]}"), "throttling", "slowed down by heat", "cooling"),
        (_training(f"nvml:0: {NEIGHBOUR[0]}"), "shared GPU", "process 7", "nobody else uses"),
        (_training(f"nvml:0: {SHORT[0]}"), "short window", "0.30 s is only 3.0 times", "raise inference_seconds"),
        (_training(f"nvml:0: {DISAGREE}"), "sensors disagree", "the counter says 187.0 J", "run it again"),
        (_training(f"nvml:0: {MODULE}"), "whole module", "the counter says 1500.0 J", "same kind of module"),
        (_training(*RANKS), "several ranks", "rank 1 of 2", "one_per_node"),
        (_training(duration_s=4.0), "short window", "nvml:0 was read over 4.00 s, less than 5 s", "train for longer"),
        (
            record(energy={"training": reading(source(1.0), duration_s=0.5)}),
            "short window",
            "cpu was read over 0.50 s, less than 1 s",
            "train for longer",
        ),
        (record(warnings=tuple(BUSY)), "shared machine", "2.0 cores ran other processes", "quiet machine"),
        (record(valid=False, invalid_reason="kept 0.6"), "invalid", "", "kept out of means"),
        (failed(), "failed", "", "run the suite again"),
        (record(warnings=("strange",)), "warning", "", "with care"),
    ],
)
def test_a_warning_has_its_kind_its_figures_and_a_remedy(run, kind: str, detail: str, remedy: str) -> None:
    (problem,) = problems_of(run)
    assert problem.kind == kind
    assert problem.where == f"{run.suite}/{run.key}"
    assert detail in problem.detail
    assert remedy in problem.remedy


def test_quiet_runs_have_nothing_to_confess() -> None:
    assert list(problems_of(_training(duration_s=5.0))) == []
    assert list(problems_of(record(energy={"training": reading(source(1.0), duration_s=1.0)}))) == []
    evaluation = reading(source(1.0), duration_s=0.1).model_copy(update={"name": "evaluation"})
    assert list(problems_of(record(energy={"evaluation": evaluation}))) == []  # nothing is compared by it


def test_a_short_inference_is_told_with_its_batch_size_and_once() -> None:
    short = reading(source(1.0), duration_s=0.25)
    measured = inference(64, 0.8).model_copy(update={"energy": short})
    found = list(problems_of(record(inference=(measured,), energy={"inference": short})))
    assert [problem.detail for problem in found] == [
        "inference energy at batch 64: cpu was read over 0.25 s, less than 1 s"
    ]


def test_the_same_on_many_runs_is_one_warning_with_the_figures_of_each(tmp_path: Path) -> None:
    busy = [contention(BEGIN, replace(BEGIN, time_s=100.0, all_s=100.0 + i), "training", cores=4)[0] for i in range(30)]
    runs = [record("gated", seed=i, warnings=(text,)) for i, text in enumerate(busy)]
    (group,) = grouped(load(store(tmp_path, *runs)).problems)
    assert group["kind"] == "shared machine"
    assert len(group["where"]) == 30
    assert all("cores ran other processes" in detail for _, detail in group["where"])


def test_machines_that_differ_are_told_and_never_averaged(tmp_path: Path) -> None:
    here = grid(("dense", "gated"), seeds=3)
    other = {"gpu": "Other GPU", "cpu": "Other CPU"}
    there = [run.model_copy(update={"machine": other, "key": f"{run.key}-there"}) for run in here]
    results = load(store(tmp_path, *here, *there))
    (problem,) = check(results)
    assert problem.kind == "mixed machines"
    assert "2 machines: Example CPU 9000, 4 cores; Other GPU, Other CPU" in problem.what
    assert "no mean is over two" in problem.remedy
    assert [list(part.runs["machine"].unique()) for part in results.comparisons()] == [
        ["Example CPU 9000, 4 cores"],
        ["Other GPU, Other CPU"],
    ]


def test_the_heaviest_comes_first_and_all_are_counted() -> None:
    few, bad, odd = (Problem(kind, "a", "b", "c") for kind in ("few seeds", "unreadable", "something new"))
    assert by_weight([odd, few, bad]) == [bad, few, odd]
    assert counted([few, bad, few]) == "unreadable (1), few seeds (2)"
    assert counted([]) == ""


@pytest.mark.usefixtures("no_figures")
def test_the_page_counts_what_it_warns_about(tmp_path: Path) -> None:
    results = store(tmp_path / "results", record(), failed(), record("gated", warnings=tuple(BUSY)))
    text = json.loads(record("uniform").model_dump_json())
    for name, version in (("newer", SCHEMA_VERSION + 1), ("older", SCHEMA_VERSION - 1)):
        (results / "cifar10-cpu" / name).mkdir()
        path = results / "cifar10-cpu" / name / RECORD_FILE
        path.write_text(json.dumps(text | {"schema_version": version}))
    (results / "cifar10-cpu" / "binary").mkdir()
    (results / "cifar10-cpu" / "binary" / RECORD_FILE).write_bytes(b"\xff\xfe\x00")
    (results / "cifar10-cpu" / "folder" / RECORD_FILE).mkdir(parents=True)
    write_report(results, tmp_path / "out")
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Unreadable (4), failed (1), few seeds (1), shared machine (1)." in html
    for where in ("newer", "older", "binary", "folder"):
        assert f"{where}/{RECORD_FILE}" in html
    assert "2.0 cores ran other processes" in html


@pytest.mark.usefixtures("no_figures")
def test_several_folders_stand_side_by_side_in_one_table_and_one_page(tmp_path: Path) -> None:
    folders = [store(tmp_path / name, *grid(("dense", "gated"), seeds=3)) for name in "ab"]
    folders.append(store(tmp_path / "c", *grid(("dense", "gated"), seeds=3, machine={"cpu": "Other CPU"})))
    written = write_report(folders, tmp_path / "out")
    assert [path.name for path in written].count("report.html") == 1
    markdown = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert markdown.startswith("| Folder | Machine | Method |")
    rows = [line for line in markdown.split("\n\n")[0].splitlines() if "| gated |" in line]
    assert len(rows) == 3  # a row for each folder, nothing averaged over them
    assert all("| 3 |" in row for row in rows)
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    together = html[html.index("Side by side") : html.index('<section id="cifar10-cpu">')]
    first = together[: together.index("</table>")]
    assert first.count("<td>gated</td>") == 3
    assert "Other CPU" in first


@pytest.mark.usefixtures("no_figures")
def test_one_comparison_has_no_second_table_of_the_same(tmp_path: Path) -> None:
    write_report(store(tmp_path / "results", *grid()), tmp_path / "out")
    assert "Side by side" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
