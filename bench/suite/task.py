"""What a suite says about its task."""

from __future__ import annotations

import json
from typing import Annotated, Any

from greenprune.bench.errors import UserError
from greenprune.bench.suite.recipe import Part, refused
from greenprune.bench.tasks.catalogue import DEFAULT, TASKS, options_of
from greenprune.bench.tasks.options import DistillationOptions, TaskOptions
from greenprune.methods.plugins import REFERENCE
from pydantic import (
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, PydanticKnownError


class TaskEntry(Part):
    """A task and its options."""

    name: str = Field(DEFAULT, description="a task of greenprune, or package.module:Task")
    options: SerializeAsAny[TaskOptions] = Field(
        default={}, validate_default=True, description="the task's own options; those left out have their defaults"
    )

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if ":" not in name and name not in TASKS:
            raise PydanticCustomError("unknown_name", "is unknown")
        try:
            options_of(name)
        except UserError as e:
            raise refused(str(e).replace("task = ", "name = ", 1)) from None
        return name

    @field_validator("options", mode="plain")
    @classmethod
    def _are_the_tasks_own(cls, options: Any, info: ValidationInfo) -> Any:
        if "name" not in info.data:
            return options  # nothing can be said about the options of an unknown task
        kind = options_of(info.data["name"])
        if isinstance(options, kind):
            return options
        if not isinstance(options, dict):
            raise PydanticKnownError("dict_type")
        # Strict JSON rather than strict Python: there a list may become a tuple.
        chosen = kind.model_validate_json(json.dumps(options, default=str), strict=True)
        if isinstance(chosen, DistillationOptions):
            try:
                options_of(chosen.of)
            except UserError as e:
                raise refused(str(e).replace("task = ", "options.of = ", 1)) from None
        return chosen


def _name_alone(value: Any, inner: ValidatorFunctionWrapHandler) -> Any:
    """A text stands for a table with this name."""
    if not isinstance(value, str):
        return inner(value)
    try:
        return inner({"name": value})
    except ValidationError as e:
        details = []
        for d in e.errors():
            if d["type"] == "missing":
                needed = ".".join(map(str, d["loc"]))
                raise refused(
                    f'task = "{value}": needs {needed}; allowed: a table [task] with name = "{value}" and options'
                ) from None
            own = d["loc"][-1:] == ("name",)
            kind, loc = (d["type"], d["loc"][:-1]) if own else (d["type"], d["loc"])
            message = d["msg"].replace("name = ", "task = ", 1) if own else d["msg"]
            details.append(
                InitErrorDetails(type=PydanticCustomError(kind, message, d.get("ctx")), loc=loc, input=value)  # type: ignore[arg-type]
            )
        raise ValidationError.from_exception_data("text", details) from None


TaskOfSuite = Annotated[TaskEntry, WrapValidator(_name_alone)]


def describe_in(schema: dict[str, Any]) -> None:
    """Complete a suite's JSON schema: the names of tasks, and the options of each."""
    definitions = schema["$defs"]
    entry = definitions.pop("TaskEntry")
    names = [{"type": "string", "enum": list(TASKS)}, {"type": "string", "pattern": REFERENCE}]
    described = entry["properties"]["name"].pop("description")
    entry["properties"]["name"] = {"anyOf": names, "description": described, "title": "Name", "default": DEFAULT}
    rules = []
    for name, card in TASKS.items():
        options = card.Options.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= options.pop("$defs", {})
        rules.append(
            {
                "if": {"properties": {"name": {"const": name}}, "required": ["name"]},
                "then": {"properties": {"options": options}},
            }
        )
    stated = schema["properties"]["task"]
    schema["properties"]["task"] = {
        "anyOf": [*names, {"type": "object"}],
        "properties": entry["properties"],  # of the table
        "additionalProperties": False,
        "allOf": rules,
        "description": stated["description"],
        "title": stated.get("title", "Task"),
        "default": DEFAULT,
    }
