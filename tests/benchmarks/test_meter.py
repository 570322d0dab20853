"""Opening and closing an energy window."""

from __future__ import annotations

from greenprune.bench.energy import EnergyMeter

from tests.benchmarks import references
from tests.benchmarks.side_by_side import SideBySide

WINDOWS = 60


def test_meter_window(side_by_side: SideBySide) -> None:
    meter = EnergyMeter("cpu")

    def windows() -> None:
        for _ in range(WINDOWS):
            with meter.window("empty"):
                pass

    side_by_side(windows, references.bookkeeping())
