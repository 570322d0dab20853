"""A meter that counts the joules a test says it used."""

from __future__ import annotations

import importlib.util
import math
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from greenprune.bench.energy import EnergyMeter
from greenprune.bench.energy.node.ranks import GLOBAL_RANKS, LAUNCHERS
from greenprune.bench.energy.reading import SourceReading
from greenprune.bench.energy.source import Mark, Segment

STOOD_IN = {
    "lightning": (),
    "lightning.pytorch": ("Callback", "LightningModule", "Trainer"),
    "lightning.pytorch.strategies": ("ParallelStrategy",),
    "accelerate": (),
    "transformers": ("Trainer", "TrainerCallback", "TrainerControl", "TrainerState", "TrainingArguments"),
    "transformers.trainer_utils": ("get_last_checkpoint",),
}
"""Of the frameworks, where a test can do without them."""

UNSURE_J = 0.25
"""Either bound of a window of the known source is so far from its figure."""


class Known:
    """A counter that moves when told to."""

    name, kind, poll_interval_s = "known", "measured", math.inf
    used_j = 0.0
    broken = False

    def use(self, joules: float) -> None:
        self.used_j += joules

    def poll(self) -> None:
        pass

    def mark(self) -> Mark:
        return Mark(time.perf_counter(), math.nan if self.broken else self.used_j, reason="it broke")

    def reading(self, segments: Sequence[Segment]) -> tuple[SourceReading, list[str]]:
        energy_j = sum(segment.energy_j for segment in segments)
        return SourceReading(
            name=self.name, kind="measured", energy_j=energy_j, low_j=energy_j - UNSURE_J, high_j=energy_j + UNSURE_J
        ), []

    def rescued(self, segments: Sequence[Segment], reason: str) -> None:
        return None

    def last_sample(self) -> None:
        return None

    def expected_uncertainty(self, window_s: float) -> float | None:
        return None

    def describe(self) -> dict[str, Any]:
        return {"source": self.name, "kind": self.kind, "available": True, "detail": ""}

    def restart(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
def meter(known: Known, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name, _ in LAUNCHERS] + [name for name, _ in GLOBAL_RANKS]:
        monkeypatch.delenv(name, raising=False)
    with EnergyMeter("cpu", powercap=tmp_path) as made:
        made._sources[:] = [known]
        yield made


@pytest.fixture
def integration(monkeypatch: pytest.MonkeyPatch):
    """Gives a module of `greenprune.integrations`, which nobody else sees."""
    for name, classes in STOOD_IN.items():
        stand_in = types.ModuleType(name)
        for each in classes:
            setattr(stand_in, each, type(each, (), {}))
        monkeypatch.setitem(sys.modules, name, stand_in)

    def load(name: str) -> ModuleType:
        spec = importlib.util.find_spec(f"greenprune.integrations.{name}")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
