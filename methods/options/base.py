"""The base of every method's options, and what else a suite needs to know of a method before it runs."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from greenprune.methods.cost.kinds import CostKind
from pydantic import BaseModel, ConfigDict, Field, create_model

BudgetUnit = Literal["macs", "connections", "mean_macs"]
"""What a budget counts, see `greenprune.methods.Method`."""

COUNTED: dict[BudgetUnit, str] = {
    "macs": "MACs", "connections": "connections", "mean_macs": "MACs on average over images",
}  # fmt: skip


class MethodOptions(BaseModel):
    """Base of every method's options: immutable, unknown keys refused, every field with a default and a description."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Options = TypeVar("Options", bound=MethodOptions)


def with_defaults(options: type[Options], name: str, about: str, **defaults: Any) -> type[Options]:
    """The options of a variant: those of `options` with other defaults, everything else as it is.

    A variant is a method of its own name, a subclass with such `Options`: what it stands for is in its records, in full.

    Args:
        name: of the new class.
        about: its docstring.
        defaults: by option.

    Raises:
        ValueError: there is no such option, or it does not take the value.
    """
    options.model_validate(defaults, strict=True)
    fields = {key: options.model_fields[key] for key in defaults}
    changed: dict[str, Any] = {
        key: (Annotated[(field.annotation, *field.metadata, Field(description=field.description))], defaults[key])
        for key, field in fields.items()
    }
    return create_model(name, __base__=options, __doc__=about, **changed)


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
