"""A calibration on a busy machine is made again. Nothing is measured here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from greenprune.bench.inference.calibration import TRIES, steadiest
from greenprune.bench.records.validity import AGREED
from greenprune.methods.budget.correction import disagreement
from greenprune.methods.cost.measured_cost import Sample


def table(*samples: Sample, slope: float = 1.0, closing_slope: float = 1.0) -> Any:
    return SimpleNamespace(samples=samples, slope=slope, closing_slope=closing_slope)


@pytest.mark.parametrize(
    ("samples", "slopes", "off"),
    [
        ([], (1.0, 1.0), 0.0),
        ([Sample(layers=0.5, measured=0.5)], (1.0, 0.2), 0.0),
        ([Sample(layers=0.5, measured=0.5, closed=True)], (1.0, 0.2), 0.4),
        ([Sample(layers=0.35, measured=0.63), Sample(layers=0.7, measured=1.01)], (0.38, 1.0), 0.124),
        ([Sample(layers=0.5, measured=0.5, spread=0.3), Sample(layers=0.5, measured=0.4)], (1.0, 1.0), 0.3),
    ],
)
def test_whole_networks_may_disagree_with_the_table_and_with_themselves(samples, slopes, off) -> None:
    assert disagreement(table(*samples, slope=slopes[0], closing_slope=slopes[1])) == pytest.approx(off)


def made(*disagreements: float) -> list[Any]:
    return [table(Sample(layers=0.5, measured=0.5, spread=off)) for off in disagreements]


def test_a_steady_table_is_the_only_one() -> None:
    tables = made(AGREED, 0.0)
    assert steadiest(lambda: tables.pop(0)) is not tables[0]
    assert len(tables) == 1


def test_of_busy_ones_the_steadiest_counts() -> None:
    tables = made(0.3, 0.1, *[0.2] * TRIES)
    best = tables[1]
    assert steadiest(lambda: tables.pop(0)) is best
    assert len(tables) == 2


def test_a_long_calibration_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = iter([0.0, 60.0])
    monkeypatch.setattr("greenprune.bench.inference.calibration.time.perf_counter", lambda: next(now_s))
    tables = made(0.3, 0.1)
    assert disagreement(steadiest(lambda: tables.pop(0))) == 0.3
