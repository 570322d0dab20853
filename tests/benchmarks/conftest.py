"""Fixtures of the benchmarks: one thread, one meter, and `side_by_side`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from greenprune.bench.energy import EnergyMeter

from tests.benchmarks.plugin import GATE
from tests.benchmarks.side_by_side import SideBySide


@pytest.fixture(scope="session")
def meter() -> EnergyMeter:
    """Of the processor and the memory: benchmarks use no GPU."""
    return EnergyMeter("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on busy cores would count as CPU time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def side_by_side(request: pytest.FixtureRequest, benchmark: Any, meter: EnergyMeter) -> SideBySide:
    torch.manual_seed(0)
    gate = request.config.pluginmanager.get_plugin(GATE)
    return SideBySide(benchmark, gate, meter, request.path)
