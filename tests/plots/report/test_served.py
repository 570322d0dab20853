"""The table of runtimes in the report."""

from __future__ import annotations

from pathlib import Path

import pytest
from greenprune.bench.records.inference import Served
from greenprune.plots.frame.load import load
from greenprune.plots.report.measures import measured
from greenprune.plots.report.report import write_report
from greenprune.plots.report.served import COLUMNS, served_tables

from tests.plots.records import inference, record, store


def test_a_row_for_each_runtime_precision_and_batch_size_and_the_reason_where_there_is_none() -> None:
    served = (
        Served(runtime="onnxruntime", precision="float32", inference=(inference(1, 0.6), inference(64, 0.5))),
        Served(runtime="onnxruntime", precision="int8", inference=(inference(1, 0.4),), test_score=0.9),
        Served(runtime="compile", precision="float32", problem="torch.compile cannot compile this network"),
    )
    run = record("gated", inference=(inference(1, 0.8),), served=served)
    (table,) = served_tables([run, record("uniform")])
    rows = [dict(zip((heading for heading, _ in COLUMNS), row["cells"], strict=True)) for row in table["rows"]]
    assert [(row["runtime"][0], row["precision"][0], row["batch size"][0]) for row in rows[1:]] == [
        ("onnxruntime", "float32", "1"), ("onnxruntime", "float32", "64"), ("onnxruntime", "int8", "1"),
        ("compile", "float32", "–"),
    ]  # fmt: skip
    assert rows[0]["runtime"][0] == "eager"
    assert [row["time to dense"][1] for row in rows[:4]] == [0.8, 0.6, 0.5, 0.4]
    assert rows[4]["note"][0] == "torch.compile cannot compile this network"
    assert all(len(row["cells"]) == len(COLUMNS) for row in table["rows"])


@pytest.mark.usefixtures("no_figures")
def test_the_report_shows_it_only_where_a_suite_names_runtimes(tmp_path: Path) -> None:
    served = (Served(runtime="openvino", precision="float32", inference=(inference(1, 0.6),)),)
    write_report(store(tmp_path / "a", record(), record("gated", served=served)), tmp_path / "with")
    assert "In the runtime that serves" in (tmp_path / "with" / "report.html").read_text()
    assert served_tables([record()]) == []


def test_a_network_that_integers_have_destroyed_has_its_score_of_zero(tmp_path: Path) -> None:
    whole = Served(runtime="onnxruntime", precision="int8", inference=(inference(1, 0.5),), test_score=0.5)
    served = (whole, whole.model_copy(update={"test_score": 0.0}))
    runs = [record("gated", seed=seed, served=(entry,)) for seed, entry in enumerate(served)]
    (part,) = load(store(tmp_path, record(), *runs)).comparisons()
    found = measured(part)
    column = [measure.name for measure in found.measures].index("test_score.onnxruntime.int8")
    assert dict(zip(part.runs["key"], found.values[:, column, 0], strict=True))["gated-0.5-1"] == 0.0
