"""Pruning methods as a library: works on any `nn.Module`, needs nothing of the harness or the plots."""

from __future__ import annotations

from methods import plugins
from methods.base import Method, MethodOptions, Phase, Skip
from methods.budget import BudgetError
from methods.calibration import calibrate
from methods.costs import CostKind
from methods.dense import Dense
from methods.depgraph import DepGraph
from methods.describe import Ungateable, describe, ungateable
from methods.dynamic import Dynamic
from methods.gated import Gated
from methods.gating import ConsensusGating
from methods.gating_options import GatingOptions
from methods.macs import MacMeter, count_macs, count_params
from methods.magnitude import Magnitude
from methods.magnitude_unstructured import MagnitudeUnstructured
from methods.measured_cost import CostTable
from methods.plugins import MethodError
from methods.random_channels import Random
from methods.slimming import Slimming
from methods.uniform import Uniform

_METHODS: tuple[type[Method], ...] = (
    Dense, DepGraph, Dynamic, Gated, Magnitude, MagnitudeUnstructured, Random, Slimming, Uniform,
)  # fmt: skip


def registry() -> dict[str, type[Method]]:
    """Every method by its name: those here, and those of installed packages (entry point group `greenprune.methods`)."""
    return plugins.merged({method.name: method for method in _METHODS})[0]


def find(name: str) -> type[Method]:
    """The method called `name`, or the class `module:Class`.

    Raises:
        UnknownMethodError: there is none.
        MethodError: it cannot be used. Either message is one sentence.
    """
    known, broken = plugins.merged({method.name: method for method in _METHODS})
    if name in broken:
        raise MethodError(broken[name])
    if name in known:
        return known[name]
    if ":" in name:
        return plugins.load(name)
    raise plugins.UnknownMethodError(f'there is no method "{name}"; known are {", ".join(known)}, and module:Class')


__all__ = [
    "BudgetError",
    "ConsensusGating",
    "CostKind",
    "CostTable",
    "GatingOptions",
    "MacMeter",
    "Method",
    "MethodError",
    "MethodOptions",
    "Phase",
    "Skip",
    "Ungateable",
    "calibrate",
    "count_macs",
    "count_params",
    "describe",
    "find",
    "registry",
    "ungateable",
]
