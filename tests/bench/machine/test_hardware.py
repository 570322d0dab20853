"""On what a command was measured."""

from __future__ import annotations

from typing import Any

import pytest
from greenprune.bench.machine.hardware import hardware


def row(source: str, detail: str | None) -> dict[str, Any]:
    return {"source": source, "available": detail is not None, "detail": detail}


@pytest.mark.parametrize(
    ("rows", "gpu"),
    [
        (
            [row("amd:0", "AMD Instinct MI210, 0000:03:00.0"), row("rapl:package-0", "intel-rapl:0")],
            "AMD Instinct MI210",
        ),
        ([row("nvml:0", "NVIDIA A100, GPU-1"), row("nvml:1", "NVIDIA A100, GPU-2")], "NVIDIA A100, NVIDIA A100"),
        ([row("intel-gpu:0000:03:00.0", "Intel GPU 0000:03:00.0 (xe), the whole card")], "Intel GPU 0000:03:00.0 (xe)"),
        (
            [row("jetson:VDD_GPU_SOC", "power rail VDD_GPU_SOC"), row("jetson:VDD_CPU_CV", "x")],
            "power rail VDD_GPU_SOC",
        ),
        ([row("amd:0", None), row("cpu", "CPU time")], None),
    ],
)
def test_the_gpus_of_every_maker_that_were_read_are_named(rows: list[dict[str, Any]], gpu: str | None) -> None:
    assert hardware(rows)["gpu"] == gpu
