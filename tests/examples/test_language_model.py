"""The example of a language model, tiny: it trains both networks alike, keeps the budget, and writes what it prints."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from tests.plots.records import reading, source

pytest.importorskip("transformers", reason="transformers is not installed")

ROOT = Path(__file__).parents[2]
STEPS, BATCH, LENGTH = 30, 4, 16


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("language_model", ROOT / "examples" / "language_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_networks_learn_and_the_gated_one_keeps_its_budget(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.json"
    options = (
        f"--steps {STEPS} --batch {BATCH} --length {LENGTH} --width 32 --files 20 --tested-bytes 1000 --measure-s 0.4"
    )
    example.main([*options.split(), "--record", str(file)])
    record = json.loads(file.read_text(encoding="utf-8"))
    dense, gated = record["results"]["dense"], record["results"]["gated"]
    assert dense["kept_macs"] == 1.0
    assert 0.48 <= gated["kept_macs"] <= 0.5
    assert gated["parameters"] < dense["parameters"]
    assert gated["masked_max_abs_diff"] < 1e-4
    for found in (dense, gated):
        assert found["perplexity"] < record["untrained_perplexity"]
        assert found["training"]["tokens"] == STEPS * BATCH * LENGTH
    assert dense["reading"]["kind"] == gated["reading"]["kind"]
    assert record["versions"]["torch"]
    printed = capsys.readouterr().out
    assert example.table(record["results"]) in printed
    assert file.with_name("table.md").read_text(encoding="utf-8") in printed
    for found in (dense, gated):
        assert f"| {found['perplexity']:.3f} |" in printed


def test_held_out_files_are_not_trained_on(example: ModuleType) -> None:
    second, first = (bytes(text.tolist()) for text in example.sources(2))  # of two files the first is held out
    trained, held_out = (bytes(text.tolist()) for text in example.sources(20))
    assert first in held_out
    assert first not in trained
    assert second in trained
    assert second not in held_out


def test_the_committed_record_and_its_table_are_what_the_example_writes(example: ModuleType) -> None:
    folder = ROOT / "results" / "language-model"
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert record["command"].startswith("python examples/language_model.py")
    assert set(record["settings"]) == set(vars(example.arguments().parse_args([]))) - {"record"}
    assert (folder / "table.md").read_text(encoding="utf-8") == example.table(record["results"])
    assert record["results"]["gated"]["kept_macs"] <= record["settings"]["keep"]


class FailingSensor:
    """A meter of a GPU at 10 J a block, whose sensor fails in every fourth block, and of a CPU at 3 J."""

    def __init__(self) -> None:
        self.blocks = count(1)

    @contextmanager
    def window(self, _: str) -> Iterator[SimpleNamespace]:
        gpu = source(None if next(self.blocks) % 4 == 0 else 10.0, "measured", "nvml:0")
        window = SimpleNamespace(reading=reading(gpu, source(3.0)), count=lambda **_: None)
        window.reading = window.reading.model_copy(update={"units": {"tokens": 8.0}})
        yield window


def test_both_networks_are_compared_by_joules_of_one_kind(example: ModuleType) -> None:
    networks: list[Any] = [lambda **_: None] * 2
    settings: Any = SimpleNamespace(batch=2, length=4, measure_s=0.001, seed=0)
    dense, gated = example.measured(networks, torch.zeros(100, dtype=torch.uint8), settings, FailingSensor())
    assert (dense["kind"], gated["kind"]) == ("modelled", "modelled")
    assert (dense["j_per_token"], gated["j_per_token"]) == (3 / 8, 3 / 8)
    assert gated["ratio_to_dense"] == 1.0
