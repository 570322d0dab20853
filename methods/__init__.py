"""Pruning methods as a library: works on any `nn.Module`, needs nothing of the harness or the plots.

Each name is looked up when it is first used: what a suite needs to know of the methods is there without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from greenprune.methods.base import Method, Phase, Skip
    from greenprune.methods.budget.select import BudgetError
    from greenprune.methods.catalogue import find, registry
    from greenprune.methods.cost.calibration import calibrate
    from greenprune.methods.cost.kinds import CostKind
    from greenprune.methods.cost.measured_cost import CostTable
    from greenprune.methods.description import Ungateable, describe, ungateable
    from greenprune.methods.gating.module import ConsensusGating
    from greenprune.methods.gating.options import GatingOptions
    from greenprune.methods.options.base import MethodOptions
    from greenprune.methods.plugins import MethodError
    from greenprune.methods.structure.inputs import Inputs
    from greenprune.methods.structure.macs import count_macs, count_params
    from greenprune.methods.structure.meter import MacMeter
    from greenprune.methods.structure.outputs import logits_of
    from greenprune.methods.uniform import Uniform

__all__ = [
    "BudgetError",
    "ConsensusGating",
    "CostKind",
    "CostTable",
    "GatingOptions",
    "Inputs",
    "MacMeter",
    "Method",
    "MethodError",
    "MethodOptions",
    "Phase",
    "Skip",
    "Ungateable",
    "Uniform",
    "calibrate",
    "count_macs",
    "count_params",
    "describe",
    "find",
    "logits_of",
    "registry",
    "ungateable",
]

_PLACES = {
    "base": ("Method", "Phase", "Skip"),
    "budget.select": ("BudgetError",),
    "catalogue": ("find", "registry"),
    "cost.calibration": ("calibrate",),
    "cost.kinds": ("CostKind",),
    "cost.measured_cost": ("CostTable",),
    "description": ("Ungateable", "describe", "ungateable"),
    "gating.module": ("ConsensusGating",),
    "gating.options": ("GatingOptions",),
    "options.base": ("MethodOptions",),
    "plugins": ("MethodError",),
    "structure.inputs": ("Inputs",),
    "structure.macs": ("count_macs", "count_params"),
    "structure.meter": ("MacMeter",),
    "structure.outputs": ("logits_of",),
    "uniform": ("Uniform",),
}
_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'greenprune.methods' has no attribute {name!r}")
    found = getattr(import_module(f"greenprune.methods.{_MODULE_OF[name]}"), name)
    globals()[name] = found  # before a sub-module of the same name (describe) can take its place again
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
