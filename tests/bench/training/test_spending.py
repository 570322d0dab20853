"""What a training spends over all its starts."""

from __future__ import annotations

from greenprune.bench.energy import Reading
from greenprune.bench.energy.reading import SourceReading
from greenprune.bench.training.ledger import Ledger
from greenprune.bench.training.spending import Energies


def on(gpu: str, joules: float) -> Reading:
    source = SourceReading(name=gpu, kind="measured", energy_j=joules)
    return Reading(name="training", duration_s=1.0, sources=(source,))


def test_a_training_keeps_its_joules_on_whatever_gpu_it_goes_on() -> None:
    first, ledger = Energies(None), Ledger(10)
    first.redo(ledger, on("nvml:1", 1.0), 0, 0, 1.0)
    second = Energies({"energies": first.state(on("nvml:0", 10.0))})
    second.redo(ledger, on("nvml:3", 2.0), 0, 0, 1.0)
    third = Energies({"energies": second.state(on("nvml:3", 20.0))})
    found = third.training(on("nvml:0", 30.0))
    assert found.energy_j("measured") == 60.0
    assert [source.name for source in found.sources] == ["nvml:0"]
    assert found.warnings == (
        "nvml:0: the work went on on nvml:3 after an interruption, and these are the joules of both",
    )
    assert third.redone is not None
    assert third.redone.energy_j("measured") == 3.0
