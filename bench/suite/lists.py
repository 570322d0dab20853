"""Lists in a suite: nothing twice, and where one is meant a value that is no list."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from greenprune.bench.suite.recipe import Part
from greenprune.bench.suite.validation import REPEATED
from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import InitErrorDetails, PydanticCustomError


def refuse_repeats(values: Any, inner: ValidatorFunctionWrapHandler) -> Any:
    """Refuse what occurs twice in a list (of methods: a label), together with whatever else is wrong with the list."""
    details: list[InitErrorDetails] = []
    seen: set[tuple[type, Any]] = set()  # with its type, because true equals 1
    for i, value in enumerate(values if isinstance(values, list | tuple) else ()):
        is_method = isinstance(value, dict | Part)
        word = dict(value).get("label", dict(value).get("name")) if is_method else value
        known = (type(word), word if isinstance(word, str | int | float) else repr(word))
        if word is not None and known in seen:
            loc = (i, "label") if is_method else (i,)
            details.append(InitErrorDetails(type=PydanticCustomError(REPEATED, "is there twice"), loc=loc, input=word))
        seen.add(known)
    try:
        valid = inner(values)
    except ValidationError as e:
        details += [
            InitErrorDetails(
                type=PydanticCustomError(d["type"], d["msg"], d.get("ctx")), loc=d["loc"], input=d["input"]
            )
            for d in e.errors()
        ]
    if details:
        raise ValidationError.from_exception_data("list", details)
    return valid


T = TypeVar("T")
EachOnce = Annotated[
    tuple[T, ...],
    Field(min_length=1, strict=False, json_schema_extra={"uniqueItems": True}),  # TOML has lists, not tuples
    WrapValidator(refuse_repeats),
]


def alone(value: Any, inner: ValidatorFunctionWrapHandler) -> Any:
    """One text stands for a list of one."""
    if not isinstance(value, str):
        return inner(value)
    try:
        return inner([value])
    except ValidationError as e:
        details = [
            InitErrorDetails(type=PydanticCustomError(d["type"], d["msg"], d.get("ctx")), loc=d["loc"][1:], input=value)
            for d in e.errors()
        ]
        raise ValidationError.from_exception_data("text", details) from None
