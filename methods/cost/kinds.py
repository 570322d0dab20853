"""What a budget can be stated in."""

from __future__ import annotations

from typing import Literal

CostKind = Literal["macs", "params", "latency", "energy"]
MEASURED: tuple[CostKind, ...] = ("latency", "energy")
"""Costs that need a `calibration.CostTable`."""

COST_NAMES: dict[CostKind, str] = {
    "macs": "MACs", "params": "parameters", "latency": "time", "energy": "energy",
}  # fmt: skip
