"""A suite, or a part of one, as TOML. Python reads TOML and writes none."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date, time
from typing import Any


def toml_text(data: Mapping[str, Any]) -> str:
    """A suite as TOML: texts, numbers, dates, lists, tables of tables, and a list of tables under `methods`."""
    lines = [f"{_key(key)} = {toml_value(value)}" for key, value in data.items() if not _is_table(value)]
    for key, value in data.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{_key(key)}]", *_entries(value)]
        elif _is_table(value):
            for entry in value:
                lines += ["", f"[[{_key(key)}]]", *_entries(entry)]
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """A value on one line: `{ drift = 0.4, norm = "l1" }`."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_entries(value)) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, date | time):
        return value.isoformat()
    # Texts, whole numbers and truth values look alike in JSON and in TOML, which forbids one character more.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _entries(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {toml_value(value)}" for key, value in table.items()]


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml_value(key)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) for each in value)
    )
