"""What `greenprune prune` says at its end names the kind of all joules."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from greenprune.bench.energy.reading import Kind
from greenprune.bench.prune.both import Both
from greenprune.bench.prune.screen import screen
from greenprune.bench.records.inference import Inference
from rich.console import Console

from tests.plots.records import inference, record

SETTINGS: dict[str, Any] = {
    "dataset": "digits", "model": "net", "task": {"name": "classification"}, "images": {"train": 100, "test": 100},
    "training": {"epochs": 2},
}  # fmt: skip


def shown(monkeypatch: pytest.MonkeyPatch, kind: Kind, *measured: Inference) -> str:
    """The screen of two runs whose training joules are of this kind, on a terminal of usual width."""
    monkeypatch.setattr(Both, "size_bytes", lambda *_: 1000)
    both = Both(
        Path("runs"),
        record("dense", kinds=(kind,), settings=SETTINGS),
        record("gated", kinds=(kind,), settings=SETTINGS),
        measured,
    )
    text = io.StringIO()
    Console(file=text, width=80, color_system=None).print(screen(both, Path("small"), {}, []))
    return " ".join(text.getvalue().split())


def of_kind(batch_size: int, *kinds: Kind) -> Inference:
    joules = dict.fromkeys(kinds, (4.0, 3.0, 5.0))
    per_1000 = {"energy_j_per_1000_images": joules, "dense_energy_j_per_1000_images": joules}
    return inference(batch_size, 0.8, kinds=kinds).model_copy(update=per_1000)


@pytest.mark.parametrize("kind", ["measured", "sampled", "modelled"])
def test_joules_of_training_name_their_kind_where_inference_has_none(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = shown(monkeypatch, kind)
    assert "J of training" in said
    assert f"({kind})" in said
    assert "Joules" not in said


def test_joules_of_inference_name_the_kind_that_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    said = shown(monkeypatch, "modelled", of_kind(1, "modelled"), of_kind(64, "modelled"))
    assert "Joules, of inference for 1,000 images, are modelled from processor time" in said
    said = shown(monkeypatch, "measured", of_kind(1, "measured", "modelled"), of_kind(64, "measured"))
    assert "Joules of inference are measured, for 1,000 images" in said
    said = shown(monkeypatch, "measured", of_kind(1, "modelled"), of_kind(64, "measured", "modelled"))
    assert "Joules of inference, for 1,000 images, are modelled with batch 1, measured with batch 64" in said
