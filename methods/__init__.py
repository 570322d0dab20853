"""Pruning methods as a library: works on any `nn.Module`, needs nothing of the harness or the plots."""

from __future__ import annotations

from methods.base import Method, MethodOptions, Phase, Skip
from methods.budget import BudgetError
from methods.calibration import calibrate
from methods.costs import CostKind
from methods.dense import Dense
from methods.describe import Ungateable, describe, ungateable
from methods.gated import Gated
from methods.gating import ConsensusGating
from methods.gating_options import GatingOptions
from methods.macs import MacMeter, count_macs, count_params
from methods.magnitude import Magnitude
from methods.measured_cost import CostTable
from methods.uniform import Uniform

_METHODS: tuple[type[Method], ...] = (Dense, Gated, Magnitude, Uniform)


def registry() -> dict[str, type[Method]]:
    """Every method by its name."""
    return {method.name: method for method in _METHODS}


__all__ = [
    "BudgetError",
    "ConsensusGating",
    "CostKind",
    "CostTable",
    "GatingOptions",
    "MacMeter",
    "Method",
    "MethodOptions",
    "Phase",
    "Skip",
    "Ungateable",
    "calibrate",
    "count_macs",
    "count_params",
    "describe",
    "registry",
    "ungateable",
]
