"""A method of a suite: its name, its label, its options, and what of the suite it is in."""

from __future__ import annotations

import json
from typing import Any

from greenprune.bench.suite.lists import EachOnce
from greenprune.bench.suite.recipe import Part, refused
from greenprune.bench.suite.views import View
from greenprune.methods.catalogue import card, cards
from greenprune.methods.options.base import Card, MethodOptions
from greenprune.methods.plugins import MethodError, UnknownMethodError
from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


class MethodEntry(Part):
    """A method and its options. The same method may occur several times, under different labels."""

    stored_where_used = frozenset({"most_seeds", "views"})

    name: str = Field(description="a registered method, or module:Class")
    label: str = Field(
        "",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$",
        max_length=100,  # part of a folder's name
        description="what tables, figures and folders call it; by default the method's name",
        json_schema_extra=_without_default,
    )
    options: SerializeAsAny[MethodOptions] = Field(
        default={}, validate_default=True, description="the method's own options; those left out have their defaults"
    )
    most_seeds: int | None = Field(
        None, ge=1, description="at most so many of the suite's seeds, the first ones; by default all"
    )
    views: EachOnce[View] | None = Field(
        None, description="those of the suite's views that the method is in, samples among them; by default all"
    )

    @property
    def alone(self) -> MethodEntry:
        """Without what is said of the suite that it is in, and no part of a run."""
        return self.model_copy(update={"most_seeds": None, "views": None})

    @model_validator(mode="before")
    @classmethod
    def _label_defaults_to_name(cls, entry: Any) -> Any:
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            return {"label": entry["name"].rpartition(":")[2], **entry}
        return entry

    @field_validator("name")
    @classmethod
    def _is_registered(cls, name: str) -> str:
        if name in cards():
            return name
        try:
            card(name)
        except UnknownMethodError:
            raise PydanticCustomError("unknown_name", "is unknown") from None
        except MethodError as e:
            raise refused(f'name = "{name}": {e}') from None
        return name

    @field_validator("options", mode="plain")
    @classmethod
    def _are_the_methods_own(cls, options: Any, info: ValidationInfo) -> Any:
        method = method_of(info.data.get("name", ""))
        if method is None or isinstance(options, method.Options):
            return options  # nothing can be said about the options of an unknown method; its name is refused already
        if not isinstance(options, dict):
            raise PydanticKnownError("dict_type")
        # Strict JSON rather than strict Python: there a list may become a tuple.
        return method.Options.model_validate_json(json.dumps(options, default=str), strict=True)


def method_of(name: str) -> Card | None:
    """The method that a suite calls `name`; None where there is none that can be used."""
    known = cards().get(name)
    if known is not None:
        return known
    try:
        return card(name)
    except MethodError:
        return None
