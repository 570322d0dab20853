"""The base of every method's options, and what else a suite needs to know of a method before it runs."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

from greenprune.methods.cost.kinds import CostKind
from pydantic import BaseModel, ConfigDict

BudgetUnit = Literal["macs", "connections", "mean_macs"]
"""What a budget counts, see `greenprune.methods.Method`."""

COUNTED: dict[BudgetUnit, str] = {
    "macs": "MACs", "connections": "connections", "mean_macs": "MACs on average over images",
}  # fmt: skip


class MethodOptions(BaseModel):
    """Base of every method's options: immutable, unknown keys refused, every field with a default and a description."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Card:
    """A method as a suite sees it, which can be looked at without importing what the method stands on.

    Attributes:
        name, Options, prunes, budget_unit: as of the class, see `greenprune.methods.Method`.
        reference: the class, as `module:Class`.
    """

    name: str
    reference: str
    Options: type[MethodOptions] = MethodOptions
    prunes: bool = True
    budget_unit: BudgetUnit = "macs"

    @classmethod
    def of(cls, method: Any) -> Card:
        """What a subclass of `greenprune.methods.Method` says of itself."""
        reference = f"{method.__module__}:{method.__qualname__}"
        return cls(method.name, reference, method.Options, method.prunes, method.budget_unit)

    def load(self) -> Any:
        """The class, a subclass of `greenprune.methods.Method`; this imports its module."""
        module, _, attribute = self.reference.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def check_cost(self, cost: CostKind) -> None:
        """Raise ValueError where the method cannot keep a budget stated in `cost`."""
        if self.prunes and self.budget_unit != "macs" and cost != "macs":
            counted = COUNTED[self.budget_unit]
            raise ValueError(f'cost = "{cost}": {self.name} cannot keep such a budget, its own counts {counted}')
