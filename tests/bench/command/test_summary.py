"""What is told about a command when it has ended."""

from __future__ import annotations

from typing import Any

import pytest
from greenprune.bench.command.account import OwnCost
from greenprune.bench.command.summary import print_summary
from greenprune.bench.energy.carbon.intensity import GridIntensity
from greenprune.bench.energy.reading import Reading, SourceReading

WORLD = GridIntensity("world", 475.0, "a test")


def source(name: str, energy_j: float | None = 5.0, kind: Any = "measured", **rest: Any) -> SourceReading:
    reason = "gone" if energy_j is None else None
    return SourceReading(name=name, kind=kind, energy_j=energy_j, valid=energy_j is not None, reason=reason, **rest)


CPU, RAM = source("cpu", kind="modelled"), source("ram", kind="modelled")


@pytest.mark.parametrize(
    ("sources", "counted"),
    [
        ((CPU, RAM), False),
        ((source("amd:0"), CPU, RAM), False),
        ((source("nvml:0"), CPU, RAM), False),
        ((source("intel-gpu:0000:03:00.0"), CPU, RAM), False),
        ((source("nvml:0", scope="module"), CPU, RAM), True),  # Grace Hopper
        ((source("amd:0"),), True),  # MI300A, whose cores nothing else counts
        ((source("rapl:package-0"), RAM), True),
        ((source("nvml:0"), source("rapl:package-0", None), RAM), False),
        ((source("machine:power_meter", kind="sampled"), CPU, RAM), True),
        ((source("machine:power_meter", None, kind="sampled"), CPU, RAM), False),
    ],
)
def test_where_the_meters_own_cpu_time_is_counted(
    sources: tuple[SourceReading, ...], counted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    reading = Reading(name="command", duration_s=1.0, sources=sources)
    print_summary(reading, [], WORLD, 1.0, OwnCost(0.1, 10**8), None)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("the meter itself")]
    assert ("in what is measured of the whole machine" in line) == counted
    assert ("in none of these figures" in line) == (not counted)
