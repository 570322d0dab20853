"""That fewer MACs saved no time, or no joules, is said in words, and only where the interval says so."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from greenprune.bench.records.inference import Served
from greenprune.bench.records.record import Record
from greenprune.plots.frame.comparison import comparison
from greenprune.plots.frame.frame import Results
from greenprune.plots.frame.load import load
from greenprune.plots.frame.unsaved import in_words, unsaved, unsaved_where_served
from greenprune.plots.report.answer import answer
from greenprune.plots.report.summary import sentences
from greenprune.plots.tables.tables import markdown_text, terminal_table
from rich.console import Console

from tests.plots.records import inference, record, store


def part_of(folder: Path, *runs: Record) -> Results:
    (part,) = load(store(folder, *runs)).comparisons()
    return part


def pruned(method: str, batch_1: float, batch_250: float, seed: int = 0, **more) -> Record:
    """Of these ratios of time and of joules to dense; the interval of a single run is 0.02 to either side."""
    return record(method, seed=seed, inference=(inference(1, batch_1), inference(250, batch_250)), **more)


def test_it_is_said_with_figure_and_batch_size_wherever_people_read(tmp_path: Path) -> None:
    part = part_of(tmp_path, record(), pruned("gated", 1.04, 0.7))
    table = comparison(part)
    (said,) = in_words([each for each in unsaved(table) if each.what == "time"])
    assert said.startswith("Fewer MACs did not save time at batch 1: gated keeps 49 % of them but takes ")
    assert said.endswith(" but takes 1.04× [1.02, 1.06] the time of dense.")
    assert said in sentences(part, table)
    assert said in markdown_text(table).replace("\\", "")
    assert "1.04× [1.02, 1.06] the time at batch 1" in answer(part, table)[2]
    assert "did not save time at batch 1" in answer(part, table)[2]
    screen = Console(width=200, record=True, file=StringIO())
    screen.print(terminal_table(part))
    assert said in " ".join(screen.export_text().split())


def test_an_interval_that_holds_1_says_nothing(tmp_path: Path) -> None:
    assert unsaved(comparison(part_of(tmp_path / "run", record(), pruned("gated", 1.01, 1.0)))) == []
    noisy = [
        pruned("gated", ratio, 0.7, seed) for seed, ratio in enumerate((1.0, 1.1, 1.2))
    ]  # mean 1.1, half-width 0.25
    assert unsaved(comparison(part_of(tmp_path / "seeds", record(), *noisy))) == []
    sure = [pruned("gated", ratio, 0.7, seed) for seed, ratio in enumerate((1.10, 1.11, 1.12))]
    found = unsaved(comparison(part_of(tmp_path / "sure", record(), *sure)))
    assert {each.what for each in found} == {"time", "joules (modelled)"}
    assert found[-1].low > 1.08  # Student's t over three seeds: 1.11 - 4.30 * 0.01 / 3 ** 0.5 = 1.085


def test_a_budget_of_time_invalid_runs_and_the_dense_network_are_no_findings(tmp_path: Path) -> None:
    timed = pruned("gated", 1.2, 1.2)
    assert timed.cost is not None
    timed = timed.model_copy(update={"cost": timed.cost.model_copy(update={"kind": "latency", "kept_latency": 0.5})})
    invalid = pruned("random", 1.2, 1.2, valid=False, invalid_reason="kept too much")
    dense = record("dense", inference=(inference(1, 1.3),))
    assert unsaved(comparison(part_of(tmp_path, dense, timed, invalid))) == []


def test_of_many_the_worst_are_named_and_the_others_counted(tmp_path: Path) -> None:
    names = ("gated", "uniform", "random", "magnitude", "slimming")
    part = part_of(tmp_path, record(), *(pruned(name, 1.1 + i / 10, 0.7) for i, name in enumerate(names)))
    (said,) = in_words([each for each in unsaved(comparison(part)) if each.what == "time"])
    assert [name for name in names if name in said] == ["random", "magnitude", "slimming"]
    assert said.index("slimming") < said.index("magnitude")
    assert said.endswith("and 2 more networks.")


def test_runtimes_that_serve_are_told_too(tmp_path: Path) -> None:
    served = (Served(runtime="onnxruntime", precision="float32", inference=(inference(1, 1.1), inference(250, 0.6))),)
    part = part_of(tmp_path, record(), pruned("gated", 0.8, 0.7, served=served))
    found = unsaved_where_served(part, comparison(part))
    assert [(each.what, each.where) for each in found] == [("time", "in onnxruntime at batch 1")]
    assert any("did not save time in onnxruntime at batch 1" in text for text in sentences(part, comparison(part)))
