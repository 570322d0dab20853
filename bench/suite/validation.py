"""From pydantic's errors to sentences: where, which value, what is wrong with it, what is allowed, what was meant.

What is allowed is read from the JSON schema, so that it is stated once, in the model.
"""

from __future__ import annotations

import json
from typing import Any

from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.foreign import shortened
from greenprune.bench.records.stored import LARGEST_INTEGER
from greenprune.bench.text import plural
from greenprune.methods.plugins import REFERENCE
from pydantic import ValidationError

Loc = tuple[int | str, ...]

REFUSED = "refused"  # an error type of ours: its message is a whole sentence, `key = value ...`, with the remedy in it
REPEATED = "repeated"  # another one: the value is fine, but it occurs twice in a list

_WRONG = {
    "missing": "is missing",
    "int_type": "is not an integer",
    "int_from_float": "is not an integer",
    "float_type": "is not a number",
    "finite_number": "is not a finite number",
    "bool_type": "is not true or false",
    "string_type": "is not text",
    "tuple_type": "is not a list",
    "list_type": "is not a list",
    "dict_type": "is not a table",
    "model_type": "is not a table",
    "literal_error": "is unknown",
    "greater_than": "is too small",
    "greater_than_equal": "is too small",
    "less_than": "is too large",
    "less_than_equal": "is too large",
    "too_short": "is too short",
    "too_long": "is too long",
    "string_too_long": "is too long",
    "int_parsing_size": "is too large",
    "string_pattern_mismatch": "has the wrong form",
}

_BOUNDS = {
    "exclusiveMinimum": "above",
    "minimum": "at least",
    "exclusiveMaximum": "below",
    "maximum": "at most",
}


def sentences(error: ValidationError, schema: dict[str, Any], data: Any) -> list[str]:
    """One line per problem: `key.path[0] = value: what is wrong; allowed: ... (did you mean "...")`.

    Args:
        error: what pydantic found in `data`.
        schema: the JSON schema of the model; rules of the form `if: {properties: {key: {const}}}` are followed.
        data: what was validated.
    """
    details = [d for d in error.errors(include_url=False) if not _is_echo(d)]
    # A union reports each of its branches; the same line once is enough.
    return list(dict.fromkeys(_sentence(d, schema, data) for d in details))


def _is_echo(detail: Any) -> bool:
    """pydantic counts a list's valid items only: a long enough list of bad items is also called too short."""
    return detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]


def _sentence(detail: Any, schema: dict[str, Any], data: Any) -> str:
    kind, loc, value = detail["type"], detail["loc"], detail["input"]
    if kind == REFUSED:
        while loc and isinstance(loc[-1], int):
            loc = loc[:-1]
        return key_path((*loc[:-1], detail["msg"]))  # the message begins with the last key
    if kind == "extra_forbidden":
        known = list(_properties(_walk(schema, loc[:-1], data)[1], _at(data, loc[:-1])))
        meant = did_you_mean(str(loc[-1]), known)
        return f"{key_path(loc)} = {shown(value)}: unknown key; allowed: {', '.join(known) or 'none'}{meant}"

    path, node = _walk(schema, loc, data)
    given = "" if kind == "missing" else f" = {shown(_at(data, path) if path != loc else value)}"
    # The rest of the location names a branch of a union, none of which fits.
    wrong = "is none of what is allowed" if path != loc else _WRONG.get(kind, detail["msg"])
    meant = did_you_mean(value, _names(node)) if isinstance(value, str) and kind != REPEATED else ""
    once = ", once" if kind == REPEATED else ""
    return f"{key_path(path)}{given}: {wrong}; allowed: {allowed(node)}{once}{meant}"


def refuse_large_integers(value: Any, source: str, loc: Loc = ()) -> None:
    """Raise UserError where `value`, at `loc` of what TOML says, is or holds an integer beyond 64 bits: no key takes one, and
    Python writes none of thousands of digits.

    Args:
        source: what holds it, to begin the sentence with.
    """
    if isinstance(value, dict | list):
        for key, below in value.items() if isinstance(value, dict) else enumerate(value):
            refuse_large_integers(below, source, (*loc, key))
    elif isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        digits = str(value) if value.bit_length() <= 1000 else hex(value)
        raise UserError(
            f"{source}: {key_path(loc)} = {shortened(digits, 30)}: is beyond 64 bits; allowed: an integer within 64"
        )


def key_path(loc: Loc) -> str:
    """`("methods", 0, "name")` as `methods[0].name`."""
    return "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in loc).removeprefix(".")


def shown(value: Any, longest: int = 60) -> str:
    """`value` about as the file spells it, shortened."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def allowed(node: dict[str, Any]) -> str:
    """What a node of a JSON schema allows, in words."""
    if choices := _choices(node):
        return ", ".join(shown(v) for v in choices)
    if "anyOf" in node:
        one, *more = node["anyOf"]
        if len(more) == 1 and more[0].get("items") == one:
            return f"{allowed(one)}, or a list of such, each once"
        return " or ".join(allowed(n) for n in node["anyOf"] if n.get("type") != "null")
    bounds = " and ".join(f"{words} {node[key]:.12g}" for key, words in _BOUNDS.items() if key in node)
    match node.get("type"):
        case "integer" | "number" as kind:
            return f"{'an integer' if kind == 'integer' else 'a number'} {bounds}".rstrip()
        case "string":
            longest = f" of at most {plural(node['maxLength'], 'character')}" if "maxLength" in node else ""
            if node.get("pattern") == REFERENCE:
                return "module:Class"
            return f"text{longest} of the form {node['pattern'].strip('^$')}" if "pattern" in node else f"text{longest}"
        case "boolean":
            return "true or false"
        case "array":
            least = f"at least {node['minItems']}, " if node.get("minItems") else ""
            once = ", each once" if node.get("uniqueItems") else ""
            if node.get("minItems") and node["minItems"] == node.get("maxItems"):
                return f"a list of {node['minItems']}, each {allowed(node.get('items', {}))}{once}"
            return f"a list ({least}each {allowed(node.get('items', {}))}{once})"
        case _:
            return "a table" + (f" with {', '.join(node['properties'])}" if node.get("properties") else "")


def _choices(node: dict[str, Any]) -> list[Any]:
    return node.get("enum", [node["const"]] if "const" in node else [])


def _names(node: dict[str, Any]) -> list[str]:
    """The words a value could have meant."""
    return [str(v) for branch in [node, *node.get("anyOf", [])] for v in _choices(branch)]


def _walk(schema: dict[str, Any], loc: Loc, data: Any) -> tuple[Loc, dict[str, Any]]:
    """Follow `loc` through `schema` as far as it goes; the part that was followed, and the node there."""
    node = schema
    for depth, key in enumerate(loc):
        children = _items(node) if isinstance(key, int) else _below(node, key, _at(data, loc[:depth]))
        if children is None:
            return loc[:depth], node
        node = _resolved(children, schema)
    return loc, node


def _below(node: dict[str, Any], key: str, data: Any) -> dict[str, Any] | None:
    """What `key` of the table `data` may be; the names of keys may be the user's own."""
    others = node.get("additionalProperties")
    return _properties(node, data).get(key, others if isinstance(others, dict) else None)


def _items(node: dict[str, Any]) -> dict[str, Any] | None:
    """What each element of a list may be."""
    return next((n["items"] for n in (node, *node.get("anyOf", [])) if "items" in n), None)


def _resolved(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """`node`, and all that it refers to one level down, without `$ref`; what may be null, as if it could not."""
    branches = [branch for branch in node.get("anyOf", []) if branch.get("type") != "null"]
    if len(branches) == 1:
        node = branches[0]
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    if isinstance(node.get("items"), dict) and "$ref" in node["items"]:
        node = {**node, "items": _resolved(node["items"], schema)}
    return node


def _properties(node: dict[str, Any], data: Any) -> dict[str, Any]:
    """The keys of a table: fixed ones, and those that depend on a value in `data`."""
    properties = dict(node.get("properties", {}))
    for rule in node.get("allOf", []):
        conditions = rule["if"]["properties"].items()
        if isinstance(data, dict) and all(data.get(k) == c["const"] for k, c in conditions):
            properties |= rule["then"]["properties"]
    return properties


def _at(data: Any, loc: Loc) -> Any:
    """What lies at `loc` in nested dicts and lists; None where nothing does."""
    for key in loc:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return None
    return data
