"""The key `dataset` of a suite: a name, a table, or a list of such."""

from __future__ import annotations

import json
from typing import Annotated, Any

from greenprune.bench.data.names import DATASETS, PUBLISHED
from greenprune.bench.data.options import DataOptions, Entry, is_known, label_of
from greenprune.bench.errors import did_you_mean
from greenprune.bench.suite.recipe import refused
from greenprune.bench.suite.validation import REFUSED, shown
from greenprune.methods.plugins import REFERENCE
from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

ALLOWED = f"{', '.join(DATASETS)}, package.module:factory, a table with folder, or a list of such, each once"

OF_PUBLISHED = ("name", "skip_unreadable")
"""Keys that a table of published images may have: there is none among these that cannot be read."""


def _entry(value: Any, key: str) -> Entry:
    """Raises PydanticCustomError: a sentence; ValidationError: it is a table, and something in it is wrong."""
    if isinstance(value, DataOptions):
        return value
    if isinstance(value, str):
        if not is_known(value):
            meant = did_you_mean(value, DATASETS)
            raise refused(f"{key} = {shown(value)}: is unknown; allowed: {ALLOWED}{meant}")
        return DataOptions(factory=value) if ":" in value else value
    if not isinstance(value, dict):
        raise refused(f"{key} = {shown(value)}: is no name and no table; allowed: {ALLOWED}")
    options = DataOptions.model_validate_json(json.dumps(value, default=str), strict=True)
    if not options.folder and not options.factory and options.name not in DATASETS:
        if not options.name:
            raise refused(f"{key} = {shown(value)}: does not say where the images are; allowed: {ALLOWED}")
        meant = did_you_mean(options.name, DATASETS)
        raise refused(
            f"{key}.name = {shown(options.name)}: is unknown; allowed: {', '.join(DATASETS)}, or another name beside folder "
            f"or factory{meant}"
        )
    _refuse_what_has_no_effect(options, value)
    return options


def _refuse_what_has_no_effect(options: DataOptions, value: dict[str, Any]) -> None:
    """Raise ValidationError where a table of published images says how they are made."""
    if options.folder or options.factory or options.name not in PUBLISHED:
        return
    details = [
        InitErrorDetails(
            type=refused(
                f"{key} = {shown(given)}: {options.name} is taken as it was published; allowed: no such key, or a folder"
            ),
            loc=(),
            input=given,
        )
        for key, given in value.items()
        if key not in OF_PUBLISHED
    ]
    if details:
        raise ValidationError.from_exception_data("dataset", details)


def _entries(value: Any) -> tuple[Entry, ...]:
    """One alone stands for a list of one. Raises ValidationError: with all that is wrong with each."""
    alone = not isinstance(value, list | tuple)
    found: list[Entry] = []
    details: list[InitErrorDetails] = []
    for i, each in enumerate([value] if alone else value):
        place: tuple[int | str, ...] = () if alone else (i,)
        key = "dataset" if alone else f"dataset[{i}]"
        try:
            entry = _entry(each, key)
            if label_of(entry) in map(label_of, found):
                raise refused(f"{key}: is called {label_of(entry)}, as another one is; allowed: each name once")
            found.append(entry)
        except ValidationError as e:
            details += [_detail(d, place) for d in e.errors()]
        except PydanticCustomError as e:
            details.append(InitErrorDetails(type=e, loc=(), input=each))
    if not alone and not value:
        details.append(
            InitErrorDetails(type=refused(f"dataset = []: is empty; allowed: {ALLOWED}"), loc=(), input=value)
        )
    if details:
        raise ValidationError.from_exception_data("dataset", details)
    return tuple(found)


def _detail(found: Any, place: tuple[int | str, ...]) -> InitErrorDetails:
    """Of an error within a table; what is refused as a whole begins with a key of the table."""
    own = found["loc"] or (("",) if found["type"] == REFUSED else ())
    error = PydanticCustomError(found["type"], found["msg"], found.get("ctx"))
    return InitErrorDetails(type=error, loc=(*place, *own), input=found["input"])


Entries = Annotated[tuple[Entry, ...], Field(strict=False), BeforeValidator(_entries), WithJsonSchema({})]


def schema_of_entries(definitions: dict[str, Any]) -> dict[str, Any]:
    """What JSON schema says of it; the table goes into `definitions`."""
    table = DataOptions.model_json_schema(ref_template="#/$defs/{model}")
    definitions |= table.pop("$defs", {}) | {"DataOptions": table}
    of_table = {"properties": table["properties"]}  # for sentences: it says nothing of what is no table
    one = [
        {"type": "string", "enum": list(DATASETS)},
        {"type": "string", "pattern": REFERENCE},
        {"$ref": "#/$defs/DataOptions"},
    ]
    several = {"type": "array", "items": {"anyOf": one, **of_table}, "minItems": 1, "uniqueItems": True}
    return {"anyOf": [*one, several], **of_table}
