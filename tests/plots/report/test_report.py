"""The report: its files, its page, and what it warns about."""

from __future__ import annotations

import os
import re
from cProfile import Profile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.errors import UserError
from greenprune.bench.records.record import RECORD_FILE
from greenprune.plots.figures.gates import consensus_of
from greenprune.plots.frame.checks import check
from greenprune.plots.frame.comparison import comparison
from greenprune.plots.frame.load import load
from greenprune.plots.frame.problems import Problem
from greenprune.plots.report.page import grouped
from greenprune.plots.report.report import write_report
from greenprune.plots.report.summary import sentences

from tests.plots.records import NINE, failed, grid, reading, record, rich, source, store

FIGURES_OF_PLAIN_RECORDS = (
    "score_against_macs", "score_against_inference_energy", "score_against_training_energy",
    "energy_per_method", "energy_break_even", "saving_predicted_and_measured", "budget_achieved",
)  # fmt: skip
"""The others need widths, gates or power."""

FIGURE_FILES = [f"figures/{name}.{ending}" for name in FIGURES_OF_PLAIN_RECORDS for ending in ("png", "svg")]
TEXT_FILES = ["table.csv", "table.md", "table.tex", "energy.json", "energy.csv", "report.html"]


class _Page(HTMLParser):
    """Tags with their attributes, and the visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._texts: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self._texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if not self.tags or self.tags[-1][0] not in ("style", "script"):
            self._texts.append(data)


def _report(folder: Path, *records) -> tuple[str, _Page]:
    write_report(store(folder / "results", *records), folder / "out")
    html = (folder / "out" / "report.html").read_text(encoding="utf-8")
    return html, _Page(html)


def test_files_are_written_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    written = write_report(store(tmp_path / "results", *grid()), out)
    names = {path.relative_to(out).as_posix() for path in written}
    assert names == {*TEXT_FILES, *FIGURE_FILES}
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == names


def test_the_same_records_give_the_same_files(tmp_path: Path) -> None:
    results = store(tmp_path / "results", *grid(seeds=2))
    first = [path.read_bytes() for path in write_report(results, tmp_path / "one")]
    assert [path.read_bytes() for path in write_report(results, tmp_path / "two")] == first


def test_the_report_can_live_in_the_results_folder(tmp_path: Path) -> None:
    store(tmp_path, *grid())
    first = write_report(tmp_path / "cifar10-cpu", tmp_path / "cifar10-cpu")
    assert write_report(tmp_path / "cifar10-cpu", tmp_path / "cifar10-cpu") == first


def test_page_is_self_contained(tmp_path: Path) -> None:
    html, page = _report(tmp_path, *grid(seeds=2))
    html = re.sub(r"(?s)<script>.*?</script>", "", html)  # the scripts of others name addresses in their comments
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", html)
    assert not re.findall(r"@import|url\(|<link|https?://", html)
    (policy,) = [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2]  # no script runs that is not ours
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == len(FIGURES_OF_PLAIN_RECORDS)
    assert all((image["src"] or "").startswith("data:image/svg+xml;base64,") and image["alt"] for image in images)


@pytest.mark.usefixtures("no_figures")
def test_page_says_what_was_found_and_how(tmp_path: Path) -> None:
    _, page = _report(tmp_path, record(test_score=0.9), record("gated", test_score=0.88))
    for text in (
        "At 50 % of the MACs, gated is the only pruned network: it reaches 88.00 % on the test set, "
        "−2.00 points against dense (one seed: this may be chance).",
        "Example CPU 9000",
        "torch 2.13.0",
        "greenprune run cifar10-cpu --data data",
        "381 g CO2e per kWh in DEU",
        "modelled",
        "Few seeds : one seed for dense and gated",
    ):
        assert text in page.text


@pytest.mark.usefixtures("no_figures")
def test_page_escapes_what_records_say(tmp_path: Path) -> None:
    html, _ = _report(tmp_path, record(command="greenprune run <script>alert(1)</script>", warnings=("<b>hot</b>",)))
    assert "<script>alert" not in html
    assert "<b>hot" not in html
    assert "&lt;b&gt;hot&lt;/b&gt;" in html


@pytest.mark.usefixtures("no_figures")
def test_page_names_every_problem_and_what_to_do(tmp_path: Path) -> None:
    results = store(tmp_path / "results", record(), failed())
    (results / "cifar10-cpu" / "broken").mkdir()
    (results / "cifar10-cpu" / "broken" / RECORD_FILE).write_text("{")
    write_report(results, tmp_path / "out")
    text = _Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).text
    assert "Failed : killed by signal 11 (SIGSEGV). Its last output is in the record" in text
    assert "Unreadable : not a record, its JSON is broken" in text
    assert f"broken/{RECORD_FILE}" in text


def test_only_failed_runs_still_give_a_report(tmp_path: Path) -> None:
    written = write_report(store(tmp_path / "results", failed()), tmp_path / "out")
    assert [path.name for path in written] == ["report.html"]
    text = _Page(written[0].read_text(encoding="utf-8")).text
    assert "There is no finished run to report on." in text
    assert "killed by signal 11 (SIGSEGV)" in text


def test_comparisons_have_sections_and_figures_of_their_own(tmp_path: Path) -> None:
    other = record("gated", machine={"cpu": "Other CPU"}).model_copy(update={"key": "other"})
    results = store(tmp_path / "results", *grid(), other, record(suite="a/b"))
    written = write_report([results / "cifar10-cpu", results / "a"], tmp_path / "out")
    pictures = {path.name for path in written if path.suffix == ".svg"}
    prefixes = ("cifar10-cpu", "cifar10-cpu.2", "a-b")
    whole = {f"cifar10-cpu-{name}.svg" for name in FIGURES_OF_PLAIN_RECORDS}
    alone = {f"{prefix}-{name}.svg" for prefix in prefixes[1:] for name in ("score_against_macs", "energy_per_method")}
    assert whole | alone <= pictures
    assert all(name.startswith(prefixes) for name in pictures)
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    ids = {attrs["id"] for _, attrs in _Page(html).tags if "id" in attrs}
    assert ids >= set(prefixes)
    choices = re.findall(r"<option[^>]*>([^<]*)</option>", html)
    assert len(set(choices)) == len(choices) == 3


def test_views_are_told_apart_where_one_is_chosen(tmp_path: Path) -> None:
    equal = record("gated", key="gated-0.5-0-equal-joules", settings=record().settings | {"view": "joules"})
    results = store(tmp_path / "results", record(), record("gated"), equal)
    write_report(results, tmp_path / "out")
    choices = re.findall(
        r"<option[^>]*>([^<]*)</option>", (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    )
    assert len(set(choices)) == len(choices) == 2


def test_two_hundred_records_make_a_page_of_a_size_to_mail(tmp_path: Path) -> None:
    results = rich(tmp_path / "results", *grid(NINE, (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), 3))
    assert len(list(results.glob("*/*/record.json"))) == 195
    write_report(results, tmp_path / "out")
    assert (tmp_path / "out" / "report.html").stat().st_size <= 4_000_000


def test_twelve_times_the_records_are_far_from_twelve_times_the_work(tmp_path: Path) -> None:
    """Counted in function calls, which no busy machine changes: most of a report is its figures, whatever they show."""
    methods = ("dense", "gated", "slimming", "dynamic")  # all figures apply to these
    few = _calls_of_a_report(rich(tmp_path / "few", *grid(methods, (0.3, 0.5), 1)), tmp_path / "out-few")
    many = _calls_of_a_report(rich(tmp_path / "many", *grid(methods, (0.3, 0.5), 12)), tmp_path / "out-many")
    assert many < 2 * few  # measured: 1.12


def _calls_of_a_report(results: Path, out: Path) -> int:
    profile = Profile(builtins=False)
    profile.runcall(write_report, results, out)
    return sum(entry.callcount for entry in profile.getstats())


@pytest.mark.parametrize("version", [0, 99])
@pytest.mark.usefixtures("no_figures")
def test_records_of_another_schema_are_named_and_skipped(tmp_path: Path, version: int) -> None:
    results = store(tmp_path / "results", *grid())
    path = results / "cifar10-cpu" / "gated-0.5-0" / RECORD_FILE
    path.write_text(path.read_text().replace('"schema_version": 1', f'"schema_version": {version}'))
    write_report(results, tmp_path / "out")
    text = _Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).text
    assert f"schema_version = {version} is {'older' if version == 0 else 'newer'} than this greenprune" in text
    assert "magnitude" in text


@pytest.mark.usefixtures("no_figures")
def test_page_holds_the_energy_report_and_the_published_numbers_apart(tmp_path: Path) -> None:
    html, page = _report(tmp_path, *grid(energy={"training": reading(source(3.6e6))}))
    assert (
        "All runs together, training, evaluation and inference: 3.00 [2.10, 4.20] kWh (modelled), 1,143 g CO2e"
        in page.text
    )
    assert "PUE used: 1 (the machine alone)" in page.text
    published = html[html.index("What papers print") : html.index("Energy report")]
    assert "HRank" in published
    assert "nan" not in published.lower()  # a figure that a paper does not print is a dash
    assert "CIFAR-100" not in published  # another data set
    assert "HRank" not in html.replace(published, "")
    assert 'class="number best"' in html


@pytest.mark.parametrize("place", ["a file", "a file/below"])
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path, place: str) -> None:
    (tmp_path / "a file").write_text("")
    with pytest.raises(UserError, match="the report cannot be written"):
        write_report(store(tmp_path / "results", record()), tmp_path / place)


def test_a_failed_write_leaves_the_old_picture_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, out = store(tmp_path / "results", record()), tmp_path / "out"
    write_report(results, out)
    before = {path: path.read_bytes() for path in out.rglob("*.png")}
    real = os.replace

    def full(source: Path, target: Path) -> None:
        if Path(target).suffix == ".png":
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_report(store(tmp_path / "results", record("gated")), out)
    assert {path: path.read_bytes() for path in out.rglob("*.png")} == before
    assert not list(out.rglob("*.tmp"))


def _kinds(folder: Path, *records) -> list[tuple[str, str]]:
    return [(problem.kind, problem.what) for problem in check(load(store(folder, *records)))]


def test_a_sound_comparison_has_no_problems(tmp_path: Path) -> None:
    assert _kinds(tmp_path, *grid(seeds=3)) == []


def test_checks_of_seeds(tmp_path: Path) -> None:
    ((kind, what),) = _kinds(tmp_path / "one", *grid(seeds=1))
    assert kind == "few seeds"
    assert what.startswith("one seed for dense, gated and magnitude")
    ((_, what),) = _kinds(tmp_path / "two", *grid(("dense",), seeds=3), *grid(("gated",), seeds=2))
    assert what.startswith("fewer than 3 seeds for gated")


def test_check_of_the_reference(tmp_path: Path) -> None:
    assert [kind for kind, _ in _kinds(tmp_path / "none", *grid(("gated",), seeds=3))] == ["no reference"]
    found = _kinds(tmp_path / "some", *grid(("dense",), seeds=3), *grid(("gated",), seeds=4))
    assert found == [("unpaired", "some seeds of gated have no valid dense run: differences leave them out")]


def test_check_of_what_must_be_equal(tmp_path: Path) -> None:
    runs = grid(seeds=3)
    assert runs[3].ledger is not None
    assert runs[3].cost is not None
    more = runs[3].ledger.model_copy(update={"allowance_samples": 720_000})
    larger = runs[3].cost.model_copy(update={"macs": 61_000_000, "macs_dense": 125_000_000})
    versions = {"greenprune": "0.1.0", "torch": "2.15.0"}
    runs[3] = runs[3].model_copy(update={"ledger": more, "cost": larger, "versions": versions})
    assert _kinds(tmp_path, *runs) == [
        ("mixed", "different training allowances (samples): 360000 and 720000"),
        ("mixed", "different dense networks (MACs): 40800000 and 125000000"),
        ("mixed", "different versions of torch: 2.13.0 and 2.15.0"),
    ]


def test_check_of_missing_inference(tmp_path: Path) -> None:
    runs = grid(seeds=3)
    runs[4] = runs[4].model_copy(update={"inference": ()})
    assert _kinds(tmp_path, *runs) == [("no inference", "inference was not measured for gated")]


def test_equal_problems_are_told_once() -> None:
    same = [Problem("warning", where, "the window is short", "measure longer") for where in ("a", "b", "a")]
    other = Problem("failed", "c", "exit code 1", "run it again")
    failed_run, twice = grouped([*same, other])
    where = [("a", ""), ("b", "")]
    assert twice == {"kind": "warning", "what": "the window is short", "remedy": "measure longer", "where": where}
    assert failed_run["where"] == [("c", "")]


def test_summary_names_the_most_accurate_network_and_its_interval(tmp_path: Path) -> None:
    runs = [record(seed=seed, test_score=0.9) for seed in range(3)]
    for seed, loss in enumerate((0.00, 0.01, -0.01)):
        runs.append(record("gated", seed=seed, test_score=0.9 - loss))
        runs.append(record("magnitude", seed=seed, test_score=0.85))
    (part,) = load(store(tmp_path, *runs)).comparisons()
    first, second = sentences(part, comparison(part))
    assert first == "9 runs of 3 methods with 3 seeds on Example CPU 9000, 4 cores."
    # differences 0, -1, +1: mean 0, sd 1, half-width 4.302653 / sqrt(3) = 2.48
    assert second.startswith(
        "At 50 % of the MACs, gated has the best accuracy of the pruned networks: it reaches 90.00 ± 1.00 % on the test set, "
        "0.00 points against dense (95 % interval −2.48 to +2.48; it includes 0, so no difference is shown). "
        "Relative to dense it takes "
    )


def test_summary_leaves_out_what_is_unknown_and_invalid(tmp_path: Path) -> None:
    invalid = record("magnitude", valid=False, invalid_reason="kept too much", test_score=0.99)
    gated = record("gated", test_score=0.88, inference=(), energy={"training": reading(source(None))})
    (part,) = load(store(tmp_path, gated, invalid)).comparisons()
    assert sentences(part, comparison(part))[1:] == [
        "At 50 % of the MACs, gated is the only pruned network: it reaches 88.00 % on the test set."
    ]


@pytest.mark.parametrize("history", [{"steps": [1, 2], "channels": [[0.1, 0.2]]}, {"steps": [1, 2], "layers": "x"}])
def test_a_history_of_another_shape_is_no_gate_picture_and_no_traceback(tmp_path: Path, history: dict) -> None:
    run = record("gated").model_copy(update={"history": history})
    assert consensus_of(run) is None
    assert main(["report", str(store(tmp_path, record(), run))]) == 0
