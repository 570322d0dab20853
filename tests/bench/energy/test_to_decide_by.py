"""Joules that decide about a training or a network are those of the GPU, where there is one and its power is only sampled."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from greenprune.bench.energy.reading import KINDS, Reading, kinds_of_gpu, to_decide_by
from greenprune.bench.inference.calibration import best_energy
from greenprune.bench.records.record import Record
from greenprune.bench.records.tuning import Spent, Trial
from greenprune.bench.suite.views import share_of_dense, why_apart
from greenprune.bench.training.ledger import Ledger, OverdrawnError

from tests.bench.suite.test_views import taken
from tests.bench.tune.test_tune import trial, tuning
from tests.plots.records import reading, source


def mixed(gpu_j: float | None, cpu_j: float) -> Reading:
    """A GPU that tells its power beside a processor with a counter and a memory without."""
    gpu = source(gpu_j, "sampled", "nvml:0")
    return reading(source(cpu_j, "measured", "rapl:package-0"), gpu, source(1.0, "modelled", "ram"))


@pytest.mark.parametrize(
    ("read", "order"),
    [
        (reading(source(1.0, "modelled"), source(1.0, "measured", "rapl:package-0")), KINDS),
        (reading(source(1.0, "measured", "nvml:0"), source(1.0, "modelled")), KINDS),
        (mixed(1.0, 1.0), ("sampled", "measured", "modelled")),
        (mixed(None, 1.0), ("sampled", "measured", "modelled")),  # that it was lost makes the other no better
        (reading(source(1.0, "sampled", "machine:module-0"), source(1.0, "measured", "rapl:package-0")), KINDS),
    ],
)
def test_kinds_with_a_gpu_come_first(read: Reading, order: tuple[str, ...]) -> None:
    assert to_decide_by(kinds_of_gpu([read])) == order


def test_the_length_of_an_equal_training_is_of_the_gpu() -> None:
    def of(read: Reading) -> Record:
        return taken(50, method="gated", energy={"training": read})

    dense = of(mixed(200.0, 90.0))
    assert share_of_dense(of(mixed(120.0, 90.0)), dense, "joules") == pytest.approx(0.6)
    lost = of(mixed(None, 90.0))
    assert share_of_dense(lost, dense, "joules") is None
    assert why_apart(lost, dense).startswith("not all sampled joules of ")


def test_an_allowance_is_of_the_gpu_after_an_interruption_too() -> None:
    ledger = Ledger(30, allowance_j=4.0)
    ledger.charge_energy("train", mixed(3.0, 9.0))
    assert ledger.spent_j() == 3.0
    again = Ledger(30, allowance_j=4.0)
    again.restore(ledger.state())
    with pytest.raises(OverdrawnError, match=r"4 J: 4\.1 J"):
        again.charge_energy("train", mixed(1.1, 0.1))


def test_the_cheapest_of_equal_trials_is_that_of_the_gpu() -> None:
    def of(number: int, accuracy: float, read: Reading) -> Trial:
        return trial(number, accuracy, spent=Spent(ledger=trial(0).spent.ledger, energy=read))  # type: ignore[union-attr]

    cheaper = of(1, 0.69, mixed(800.0, 60.0))
    found = tuning(of(0, 0.7, mixed(900.0, 50.0)), cheaper)
    assert (found.comparable_kind, found.chosen) == ("sampled", cheaper)


def test_joules_of_a_layer_are_of_the_gpu() -> None:
    class Meter:
        @contextlib.contextmanager
        def window(self, name: str) -> Any:
            yield type("Window", (), {"reading": mixed(2.0, 9.0)})

    assert best_energy(Meter()) == ("sampled", "gpu")  # type: ignore[arg-type]
