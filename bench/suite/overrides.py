"""What the command line changes in a suite: `--seeds 9 10 11 --set training.epochs=24 --name paper-cpu-long`.

The changes are made in what the file holds, before it is checked: they are checked as the file is.
"""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.foreign import shortened
from greenprune.bench.suite.validation import key_path, refuse_large_integers, shown

WORD = re.compile(r"[A-Za-z][\w./:+-]*")
"""What may be given without quotes: names of networks, data sets, methods, choices."""


@dataclass(frozen=True)
class Override:
    """One change.

    Attributes:
        given: how the user typed it, to begin a sentence with.
        keys: of nested tables; an entry of `methods` goes by its label.
        value: as of a TOML file.
    """

    given: str
    keys: tuple[str, ...]
    value: Any

    def __str__(self) -> str:
        return f"{'.'.join(self.keys)} = {shown(self.value)}"


def overrides_of(
    settings: Sequence[str] = (), seeds: Sequence[int] | None = None, name: str | None = None
) -> tuple[Override, ...]:
    """The changes that the options `--set`, `--seeds` and `--name` stand for.

    Raises:
        UserError: no KEY=VALUE, no TOML, or a key twice.
    """
    found = [] if seeds is None else [Override("--seeds", ("seeds",), list(seeds))]
    found += [] if name is None else [Override("--name", ("name",), name)]
    found += [parsed(text) for text in settings]
    refuse_twice(found)
    return tuple(found)


def refuse_twice(overrides: Sequence[Override]) -> None:
    """Raise UserError where two of them change the same key."""
    before: dict[tuple[str, ...], str] = {}
    for each in overrides:
        if each.keys in before:
            raise UserError(f"{each.given}: {before[each.keys]} sets {'.'.join(each.keys)} too; allowed: each key once")
        before[each.keys] = each.given


def parsed(text: str) -> Override:
    """`KEY=VALUE` of `--set`. Raises UserError."""
    given = f"--set {shortened(text)}"
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key or not value:
        raise UserError(f"{given}: allowed is KEY=VALUE, such as training.epochs=24")
    try:
        keys = _path(tomllib.loads(f"{key} = 0"))
    except (ValueError, RecursionError):
        keys = ()
    if not keys:
        raise UserError(
            f"{given}: {shortened(key)} is no key; allowed: names with dots between them, such as training.epochs"
        )
    if WORD.fullmatch(value) and value not in ("true", "false", "inf", "nan"):
        return Override(given, keys, value)
    try:
        table = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError):
        table = {}
    if list(table) != ["value"]:
        raise UserError(
            f"{given}: {shortened(value)} is no TOML value; allowed: a number, true or false, a word, "
            "\"a text\" in quotes (the shell needs '…' around them), or a [list] of these"
        )
    refuse_large_integers(table["value"], given, keys)
    return Override(given, keys, table["value"])


def _path(table: Any) -> tuple[str, ...]:
    """The keys of tables of one entry each, outermost first; none where there is not one way down."""
    keys: tuple[str, ...] = ()
    while isinstance(table, dict) and len(table) == 1:
        ((key, table),) = table.items()
        keys += (key,)
    return () if isinstance(table, dict) else keys


def changed(data: Mapping[str, Any], overrides: Sequence[Override]) -> tuple[dict[str, Any], dict[str, str]]:
    """What a suite's file holds with the changes made; and, by the path as `sentences` spells it, what the user typed.

    Raises:
        UserError: a method that the suite does not have, or a key below what is no table.
    """
    result = copy.deepcopy(dict(data))
    typed = {}
    for override in overrides:
        *tables, last = override.keys
        place: Any = result
        path: tuple[str | int, ...] = ()
        for key in tables:
            place, step = _below(place, key, path, override)
            path += (step,)
        if isinstance(place, list):
            place, step = _below(place, last, path, override)
            raise UserError(f"{override.given}: {last} is a table; allowed: a key of it, such as {last}.options.KEY")
        place[last] = override.value
        typed[key_path((*path, last))] = override.given
    return result, typed


def _below(place: Any, key: str, path: tuple[str | int, ...], override: Override) -> tuple[Any, str | int]:
    """The table `key` of `place`, made where there is none, and the last part of its path."""
    if isinstance(place, list):
        labels = [_label(entry) for entry in place]
        if key not in labels:
            raise UserError(
                f"{override.given}: {key_path(path)} has no {key}; allowed: {', '.join(map(str, labels))}"
                f"{did_you_mean(key, [label for label in labels if label])}"
            )
        return place[labels.index(key)], labels.index(key)
    below = place.setdefault(key, {})
    if not isinstance(below, dict) and not (isinstance(below, list) and all(isinstance(e, dict) for e in below)):
        raise UserError(
            f"{override.given}: {key_path((*path, key))} = {shown(below)} is no table, so nothing is below it"
        )
    return below, key


def _label(entry: Mapping[str, Any]) -> str | None:
    """What tables and figures call a method: its label, by default its name."""
    name = entry.get("name")
    label = entry.get("label", name.rpartition(":")[2] if isinstance(name, str) else None)
    return label if isinstance(label, str) else None
