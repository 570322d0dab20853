"""When a calibration of a suite is measured anew."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from greenprune.bench.data.load import load
from greenprune.bench.energy.reading import Reading, SourceReading
from greenprune.bench.errors import UserError
from greenprune.bench.inference import calibration
from greenprune.bench.plan.plan import plan
from greenprune.bench.suite.file import load_suite
from torch import nn

from tests.bench.inference.test_budget_costs import TABLE
from tests.plots.records import source


def meter_of(*sources: SourceReading) -> Any:
    """One that reads these in each window."""
    reading = Reading(name="probe", duration_s=0.2, sources=sources)
    return SimpleNamespace(window=lambda name: nullcontext(SimpleNamespace(reading=reading)))


CPU, PSYS, GPU = (source(1.0, "measured", name) for name in ("rapl:package-0", "machine:psys", "nvml:0"))
MODEL = source(1.0)


def test_joules_of_another_kind_or_of_other_parts_of_the_machine_are_measured_anew(
    at_work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Any] = []
    monkeypatch.setattr(calibration, "measure", lambda *given: measured.append(given[-1]) or TABLE)
    monkeypatch.setattr(calibration.time, "sleep", lambda s: None)
    settings = plan(load_suite("tiny.toml"), {"digits": load("digits")}, "cpu")[0].settings

    def kind_of(cost: str, *sources: SourceReading) -> Any:
        asked = settings.model_copy(update={"cost": cost})
        model, example = nn.Conv2d(3, 4, 1), torch.zeros(1, 3, 4, 4)
        return calibration.calibrated(asked, model, example, meter_of(*sources), tmp_path).energy_kind

    assert [kind_of("energy", CPU, PSYS, MODEL), kind_of("energy", MODEL), kind_of("energy", CPU, GPU, MODEL)] == [
        "measured", "modelled", "measured",
    ]  # fmt: skip
    assert measured == ["measured", "modelled", "measured"]
    assert kind_of("energy", MODEL) == "modelled"
    assert kind_of("energy", GPU, CPU) == "measured"
    assert len(measured) == 3  # what is kept for the same sources is used
    assert [kind_of("latency", MODEL), kind_of("latency", CPU)] == [None, None]
    assert measured[3:] == [None]  # seconds are those of the machine, whatever reads its joules
    with pytest.raises(UserError, match='cost = "energy": no source of energy answers on this machine; use "latency"'):
        kind_of("energy")
