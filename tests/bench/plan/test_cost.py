"""Budgets in whatever this machine can measure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from greenprune.bench.data.load import load
from greenprune.bench.energy.sensors.place import SYSFS_VARIABLE
from greenprune.bench.plan.cost import has_sensor, resolve_cost
from greenprune.bench.plan.plan import plan
from greenprune.bench.suite.file import load_suite

from tests.bench.energy.rapl.test_rapl import zone


@pytest.fixture(autouse=True)
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine without any sensor."""
    monkeypatch.setenv(SYSFS_VARIABLE, str(tmp_path))
    (tmp_path / "class" / "powercap").mkdir(parents=True)
    has_sensor.cache_clear()
    yield tmp_path
    has_sensor.cache_clear()


@pytest.mark.parametrize(("sensor", "kind"), [(False, "latency"), (True, "energy")])
def test_auto_is_energy_where_a_sensor_measures_it(sysfs: Path, *, sensor: bool, kind: str) -> None:
    if sensor:
        zone(sysfs / "class" / "powercap" / "intel-rapl:0", "package-0", 1_000_000)
    settings = {
        run.settings.method.name: run.settings
        for run in plan(load_suite("quickstart").model_copy(update={"cost": "auto"}), {"digits": load("digits")}, "cpu")
    }
    assert settings["gated"].cost == settings["uniform"].cost == kind
    assert settings["dense"].cost == "macs"  # the same run for every kind of budget


def test_what_was_asked_for_by_name_stays() -> None:
    assert [resolve_cost(cost, "cpu") for cost in ("macs", "params", "latency", "energy")] == [
        "macs", "params", "latency", "energy",
    ]  # fmt: skip
