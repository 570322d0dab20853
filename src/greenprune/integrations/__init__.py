"""Joules in the training framework that you use, logged where it logs everything else.

`LightningEnergyCallback` (lightning), `TransformersEnergyCallback` (Hugging Face) and `measured`, a context manager and
decorator for everything else. Importing this needs none of the frameworks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from greenprune.integrations.lightning import LightningEnergyCallback
    from greenprune.integrations.plain import measured
    from greenprune.integrations.transformers import TransformersEnergyCallback

__all__ = ["LightningEnergyCallback", "TransformersEnergyCallback", "measured"]

_PLACES = {"LightningEnergyCallback": "lightning", "TransformersEnergyCallback": "transformers", "measured": "plain"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'greenprune.integrations' has no attribute {name!r}")
    return getattr(import_module(f"greenprune.integrations.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
