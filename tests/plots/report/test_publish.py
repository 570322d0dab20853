"""A site of several suites: its pages, its records, its links, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from greenprune.bench.cli.main import main
from greenprune.bench.errors import UserError
from greenprune.bench.records.cost import Calibration
from greenprune.plots.frame.comparison import budget_in_words
from greenprune.plots.report.publish import publish

from tests.plots.records import failed, grid, record, store


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenprune.plots.report.report.FIGURES", ())


def site_of(folder: Path) -> Path:
    results = store(folder / "results", *grid(seeds=2), record(suite="other"), record("gated", suite="other"))
    publish([results], folder / "site")
    return folder / "site"


def test_every_suite_has_a_page_and_every_run_its_record(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    for suite, key in (("cifar10-cpu", "gated-0.5-1"), ("other", "dense-1-0")):
        assert (site / suite / "index.html").is_file()
        assert (site / suite / "table.csv").is_file()
        stored = (tmp_path / "results" / suite / key / "record.json").read_bytes()
        assert (site / suite / "records" / f"{key}.json").read_bytes() == stored


def test_the_first_page_has_a_row_for_each_network_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    html = (site / "index.html").read_text(encoding="utf-8")
    assert html.count("<tr>") == 1 + 3 + 2  # headings, and a row for each method and budget
    for text in (
        "resnet20 on cifar10",
        "2026-01-02",
        "0.1.0",
        "Example CPU 9000",
        "greenprune run cifar10-cpu --data data",
    ):
        assert text in html
    links = re.findall(r'href="([^"]+)"', html)
    assert len(links) > 10
    for link in links:
        path, _, fragment = link.partition("#")
        if not path:
            assert f'id="{fragment}"' in html
            continue
        assert (site / path).is_file()
        if fragment:
            (key,) = parse_qs(fragment.replace("&amp;", "&"))["run"]
            assert (site / Path(path).parent / "records" / f"{key}.json").is_file()


def test_programs_read_the_same_rows(tmp_path: Path) -> None:
    rows = json.loads((site_of(tmp_path) / "index.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["method"], row["budget"], row["runs"]) for row in rows if row["page"].startswith("cifar10")] == [
        ("dense", 1.0, 2),
        ("gated", 0.5, 2),
        ("magnitude", 0.5, 2),
    ]


def test_publishing_again_drops_runs_that_are_no_more_and_keeps_what_others_put_there(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    (site / "CNAME").write_text("example.org")
    (site / "other" / "records" / "gone-0.5-0.json").write_text("{}")
    publish([tmp_path / "results" / "other"], site)
    assert (site / "CNAME").is_file()
    assert sorted(path.name for path in (site / "other" / "records").iterdir()) == [
        "dense-1-0.json",
        "gated-0.5-0.json",
    ]


def test_names_of_strangers_are_text_and_lead_nowhere_else(tmp_path: Path) -> None:
    hostile = record("gated").model_copy(update={"method": "<script>alert(1)</script>", "command": "<b>x</b>"})
    publish([store(tmp_path / "results", record(), hostile)], tmp_path / "site")
    html = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert "<b>x" not in html


def test_two_suites_of_one_name_and_folders_without_records_are_refused(tmp_path: Path) -> None:
    one, two = store(tmp_path / "a", record()), store(tmp_path / "b", record())
    with pytest.raises(UserError, match="both would be"):
        publish([one, two], tmp_path / "site")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no records"):
        publish([tmp_path / "empty"], tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_the_command_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = store(tmp_path / "results", record(), record("gated"))
    assert main(["publish", str(results), "--to", str(tmp_path / "site")]) == 0
    assert str(tmp_path / "site" / "index.html") in "".join(capsys.readouterr().out.split("\n"))
    assert main(["publish", str(tmp_path / "nowhere"), "--to", str(tmp_path / "site")]) == 2


@pytest.mark.parametrize(("runtime", "words"), [("eager", "at batch 1"), ("compile", "at batch 1 in compile")])
def test_a_budget_of_time_says_of_which_batch_and_where(runtime: str, words: str) -> None:
    table = Calibration(
        unit="s", runtime=runtime, device="cpu", threads=1, dtype="float32", memory_format="channels_last", batch_size=1,
        torch_version="2.13", rounds=3, points=9, duration_s=9.0, whole=1.0, layers_sum=1.0, scale=1.0, unexplained=0.0,
    )  # fmt: skip
    run = record("gated")
    assert run.cost is not None
    timed = run.model_copy(update={"cost": run.cost.model_copy(update={"calibration": table})})
    assert budget_in_words("latency", 0.5, [timed, timed]) == f"50 % of the inference time {words}"
    assert budget_in_words("macs", 0.5, [run]) == "50 % of the MACs"


def test_a_record_that_cannot_be_read_is_bad_input_and_hides_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, site = store(tmp_path / "results", record(), record("gated")), tmp_path / "site"
    broken = next(results.glob("*/gated*/record.json"))
    broken.write_text("{")
    assert main(["publish", str(results), "--to", str(site)]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert str(broken) in told
    assert "dense" in (site / "index.html").read_text(encoding="utf-8")
    next(results.glob("*/dense*/record.json")).write_text("{")
    assert main(["publish", str(results), "--to", str(tmp_path / "other")]) == 2
    assert not (tmp_path / "other").exists()


def test_links_to_runs_do_not_depend_on_what_else_is_published(tmp_path: Path) -> None:
    """The second machine of a suite is another comparison; which is the first one may change with a further run."""
    there = {"cpu": "Other CPU"}
    runs = (*grid(), record(key="dense-there", machine=there), record("gated", key="gated-there", machine=there))
    publish([store(tmp_path / "results", *runs)], tmp_path / "site")
    rows = json.loads((tmp_path / "site" / "index.json").read_text(encoding="utf-8"))["rows"]
    links = {run["page"] for row in rows for run in row["records"]}
    assert "cifar10-cpu/index.html#run=gated-there" in links
    assert all("part=" not in link for link in links)


def test_budgets_stand_in_their_order_and_figures_are_numbers_too(tmp_path: Path) -> None:
    publish([store(tmp_path / "results", *grid(("gated", "dense"), (0.05, 0.3)))], tmp_path / "site")
    rows = json.loads((tmp_path / "site" / "index.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["method"], row["budget"]) for row in rows] == [("dense", 1.0), ("gated", 0.05), ("gated", 0.3)]
    assert 0 < rows[2]["figures"]["time_ratio"] < 1
    assert rows[0]["figures"]["difference"] is None
    assert 'id="cifar10-resnet20-accuracy-' in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")


def test_rows_say_of_which_suite_they_are_and_what_was_equal(tmp_path: Path) -> None:
    equal = {"settings": record().settings | {"view": "joules"}}
    runs = [record(), record("gated"), record("gated", key="gated-0.5-0-equal-joules", **equal)]
    publish([store(tmp_path / "results", *runs, record(suite="other"))], tmp_path / "site")
    rows = json.loads((tmp_path / "site" / "index.json").read_text(encoding="utf-8"))["rows"]
    named = [(row["suite"], row["view"], row["method"]) for row in rows]
    assert len(set(named)) == len(named) == 5  # dense stands in both views
    assert ("cifar10-cpu", "equal training energy", "gated") in named
    html = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "<td>equal training energy</td>" in html
    assert "<td>other</td>" in html


@pytest.mark.parametrize("labels", [("gated+kd", "gated-kd"), ("g" * 98 + "a", "g" * 98 + "b")])
def test_no_two_records_share_a_file(labels: tuple[str, str], tmp_path: Path) -> None:
    runs = [record("gated", key=f"{label}-0.5-s{seed}", seed=seed).model_copy(update={"method": label})
            for label in labels for seed in (0, 1)]  # fmt: skip
    publish([store(tmp_path / "results", record(), *runs)], tmp_path / "site")
    place = tmp_path / "site" / "cifar10-cpu"
    stored = {json.loads(path.read_text(encoding="utf-8"))["key"] for path in (place / "records").iterdir()}
    assert stored == {"dense-1-0", *(run.key for run in runs)}
    page = (place / "index.html").read_text(encoding="utf-8")
    for path in (place / "records").iterdir():
        assert f'"file":"{path.name}"' in page  # where the dialog of a run leads


def test_a_damaged_record_of_one_suite_leaves_the_others_alone(tmp_path: Path) -> None:
    results = store(tmp_path / "results", *grid(), failed().model_copy(update={"suite": "zulu"}))
    (results / "cifar10-cpu" / "gated-0.5-0" / "record.json").write_text("{")
    pages, bad = publish([results], tmp_path / "site")
    assert len(bad) == 1
    assert {page.parent.name for page in pages} == {"site", "cifar10-cpu", "zulu"}


def test_folders_of_one_suite_are_told_apart(tmp_path: Path) -> None:
    folders = [store(tmp_path / name, record(), record("gated")) / "cifar10-cpu" for name in ("a", "b")]
    again = folders[1].rename(tmp_path / "b" / "again")
    publish([folders[0], again], tmp_path / "site")
    rows = json.loads((tmp_path / "site" / "index.json").read_text(encoding="utf-8"))["rows"]
    assert [row["folder"] for row in rows] == ["again", "again", "cifar10-cpu", "cifar10-cpu"]
    html = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert html.count("<td>again (cifar10-cpu)</td>") == html.count("<td>cifar10-cpu</td>") == 2
