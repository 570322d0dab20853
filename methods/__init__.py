"""Pruning methods as a library: works on any `nn.Module`, needs nothing of the harness or the plots."""

from __future__ import annotations

from greenprune.methods import plugins
from greenprune.methods.base import Method, MethodOptions, Phase, Skip
from greenprune.methods.budget.select import BudgetError
from greenprune.methods.cost.calibration import calibrate
from greenprune.methods.cost.costs import CostKind
from greenprune.methods.cost.measured_cost import CostTable
from greenprune.methods.dense import Dense
from greenprune.methods.depgraph import DepGraph
from greenprune.methods.describe import Ungateable, describe, ungateable
from greenprune.methods.dynamic import Dynamic
from greenprune.methods.gated import Gated
from greenprune.methods.gating.module import ConsensusGating
from greenprune.methods.gating.options import GatingOptions
from greenprune.methods.magnitude import Magnitude
from greenprune.methods.magnitude_unstructured import MagnitudeUnstructured
from greenprune.methods.plugins import MethodError
from greenprune.methods.random_channels import Random
from greenprune.methods.slimming import Slimming
from greenprune.methods.structure.macs import MacMeter, count_macs, count_params
from greenprune.methods.uniform import Uniform

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
