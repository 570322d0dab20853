"""The JSON schema of suite files, for editors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from greenprune.bench.suite.entry import method_of
from greenprune.bench.suite.images import schema_of_entries
from greenprune.bench.suite.suite import Suite
from greenprune.bench.suite.task import describe_in
from greenprune.methods.catalogue import cards
from greenprune.methods.plugins import REFERENCE


def schema(references: Iterable[str] = ()) -> dict[str, Any]:
    """The JSON schema of a suite file, with the names and the options of all registered methods.

    Args:
        references: methods given as `module:Class` whose options are to be described too.
    """
    result = Suite.model_json_schema()
    definitions = result["$defs"]
    one = {"type": "string"}
    several = {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}
    for key, may_be in (("dataset", schema_of_entries(definitions)), ("model", {"anyOf": [one, several]})):
        about = result["properties"][key]
        result["properties"][key] = {**may_be, "description": about["description"], "title": about["title"]}
    describe_in(result)
    entry = definitions["MethodEntry"]
    described = entry["properties"]["name"].pop("description")
    entry["properties"]["name"] = {
        "anyOf": [{"type": "string", "enum": list(cards())}, {"type": "string", "pattern": REFERENCE}],
        "description": described,
        "title": "Name",
    }
    entry["allOf"] = []
    named_otherwise = {name: method for name in references if (method := method_of(name)) is not None}
    for name, method in {**named_otherwise, **cards()}.items():
        options = method.Options.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= options.pop("$defs", {})
        named = {"properties": {"name": {"const": name}}, "required": ["name"]}
        entry["allOf"].append({"if": named, "then": {"properties": {"options": options}}})
    return result
