"""Which way of pruning a neural network is worth it, in joules.

What most people need is here; the rest is in `greenprune.methods` (pruning any `nn.Module`), `greenprune.bench` (the
harness and the energy meter) and `greenprune.plots` (records to tables, figures, pages). Importing this imports neither
torch nor pandas: each name is looked up when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from greenprune.bench.data.load import load as load_data
    from greenprune.bench.energy import EnergyMeter
    from greenprune.bench.errors import UserError
    from greenprune.bench.records.store import load_model
    from greenprune.methods import ConsensusGating, Inputs, describe, ungateable
    from greenprune.plots.frame.load import load as read_records

__all__ = [
    "ConsensusGating",
    "EnergyMeter",
    "Inputs",
    "UserError",
    "__version__",
    "describe",
    "load_data",
    "load_model",
    "read_records",
    "ungateable",
]

_PLACES = {
    "ConsensusGating": ("greenprune.methods", "ConsensusGating"),
    "EnergyMeter": ("greenprune.bench.energy", "EnergyMeter"),
    "Inputs": ("greenprune.methods", "Inputs"),
    "UserError": ("greenprune.bench.errors", "UserError"),
    "describe": ("greenprune.methods", "describe"),
    "load_data": ("greenprune.bench.data.load", "load"),
    "load_model": ("greenprune.bench.records.store", "load_model"),
    "read_records": ("greenprune.plots.frame.load", "load"),
    "ungateable": ("greenprune.methods", "ungateable"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("greenprune")
    if name not in _PLACES:
        raise AttributeError(f"module 'greenprune' has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
