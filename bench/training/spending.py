"""What a training spends, phase by phase, and over all its starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from greenprune.bench.energy import EnergyMeter, Reading
from greenprune.bench.energy.total import add_readings, as_before
from greenprune.bench.suite.recipe import Allowance
from greenprune.bench.training.ledger import Ledger
from greenprune.bench.training.ranks import total
from greenprune.methods import MacMeter


class Energies:
    """Energy of a training, over all its starts: readings are added with their uncertainties, those of a GPU to those of the
    GPU that an earlier start was on.

    Args:
        state: the checkpoint that this start goes on from.
    """

    def __init__(self, state: dict[str, Any] | None) -> None:
        stored = {} if state is None else state["energies"]
        self._before = Reading.model_validate(stored["training"]) if stored else None
        self.redone = Reading.model_validate(stored["redone"]) if stored.get("redone") else None

    def training(self, now: Reading) -> Reading:
        """With that of this start, `now`."""
        before = self._before
        return now if before is None else add_readings("training", [before, as_before(before, now)])

    def redo(self, ledger: Ledger, reading: Reading, samples: int, forward_macs: int, duration_s: float) -> None:
        """Charge what was, or is, done twice."""
        ledger.charge_again(samples=samples, forward_macs=forward_macs, duration_s=duration_s, reading=reading)
        readings = [reading] if self.redone is None else [self.redone, as_before(self.redone, reading)]
        self.redone = add_readings("redone", readings)

    def state(self, now: Reading) -> dict[str, Any]:
        redone = None if self.redone is None else self.redone.model_dump(mode="json")
        return {"training": self.training(now).model_dump(mode="json"), "redone": redone}


@contextmanager
def charged(ledger: Ledger, meter: EnergyMeter, phase: str) -> Iterator[None]:
    """Charge what is executed inside, which sees no training sample, to a phase."""
    stretch = meter.begin("training")
    with MacMeter() as macs:
        yield
    ledger.charge(phase, samples=0, forward_macs=total(macs.total))
    ledger.charge_energy(phase, stretch.end())


def open_ledger(allowance: Allowance | None, steps: int, recipe_steps: int, batch_size: int, dense_macs: int) -> Ledger:
    """The ledger of a training of `steps`, of a network that dense takes `dense_macs` per image.

    An allowance in MACs counts in what dense takes for the `recipe_steps`, those of the recipe's epochs.
    """
    samples = steps * batch_size
    if allowance is None:
        return Ledger(samples)
    macs = None if allowance.macs is None else round(allowance.macs * recipe_steps * batch_size * dense_macs)
    return Ledger(allowance.samples or samples, macs, allowance.joules)
