"""The file of a suite: where it is found, how it is read, and what is wrong with it, in sentences."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from greenprune.bench.data.options import Entry
from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.foreign import shortened
from greenprune.bench.models.kinds.kind import SUFFIXES
from greenprune.bench.paths import path_of
from greenprune.bench.suite.overrides import Override, changed
from greenprune.bench.suite.schema import schema
from greenprune.bench.suite.suite import Suite
from greenprune.bench.suite.validation import refuse_large_integers, sentences, shown
from pydantic import ValidationError

LARGEST_BYTES = 10_000_000
MOST_LINES = 20
"""Of what is wrong with a suite."""
DEEPEST = 50


def shipped() -> dict[str, Traversable]:
    """The suites that come with greenprune, by name."""
    found = (f for f in files("greenprune.bench.suites").iterdir() if f.name.endswith(".toml"))
    return {f.name.removesuffix(".toml"): f for f in sorted(found, key=lambda f: f.name)}


def load_suite(name_or_path: str, overrides: Sequence[Override] = (), only: Sequence[str] | None = None) -> Suite:
    """Read and check a suite.

    Args:
        name_or_path: name of a shipped suite, or path of a TOML file.
        overrides: what the command line changes in it.
        only: labels of the methods that have to be able to keep a budget in what the suite states its budgets in; None: all.

    Raises:
        UserError: no such suite, unreadable, not TOML, or not a suite. Everything wrong with its content is reported at
            once, one line each, after the option that it comes from, or the file.
    """
    return suite_from(read_toml(name_or_path), name_or_path, overrides, only)


def suite_from(
    content: Mapping[str, Any], name_or_path: str, overrides: Sequence[Override] = (), only: Sequence[str] | None = None
) -> Suite:
    """Check what a suite's file holds, `name_or_path` naming it in sentences. Raises UserError: as of `load_suite`."""
    data, typed = changed(content, overrides)
    if isinstance(data.get("weights"), str) and data["weights"]:
        given = typed.get("weights")
        beside = None if given or name_or_path in shipped() else Path(name_or_path).parent
        data["weights"] = located(data["weights"], beside, given or name_or_path)
    try:
        suite = Suite.model_validate(data, context={"only": only})
        return suite if name_or_path in shipped() else _beside(suite, typed, name_or_path)
    except ValidationError as e:
        entries = data.get("methods")
        names = [m.get("name") for m in entries if isinstance(m, dict)] if isinstance(entries, list) else []
        lines = sentences(e, schema(n for n in names if isinstance(n, str) and ":" in n), data)
        told = [f"{_source(line, typed, name_or_path)}: {line}" for line in lines[:MOST_LINES]]
        if len(lines) > MOST_LINES:
            told.append(f"{name_or_path}: and {len(lines) - MOST_LINES:,} more")
        raise UserError("\n".join(told)) from None


def located(weights: str, beside: Path | None, source: str) -> str:
    """Where the weights lie, as a path from the working directory; a name of published ones as it is.

    Args:
        beside: the folder that is looked in first.
        source: where they were named, to begin a sentence with.

    Raises:
        UserError: there is no such file or folder, or it cannot be looked for.
    """
    given = f'{source}: weights = "{shortened(weights)}"'
    places = [*([] if beside is None else [path_of(weights, given, beside)]), path_of(weights, given)]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        if "/" not in weights and not weights.endswith(SUFFIXES):
            return weights
        looked = " or ".join(dict.fromkeys(str(place.absolute().parent) for place in places))
        raise UserError(
            f"{given}: there is no such file or folder in {looked}; allowed: a file of tensors ({', '.join(SUFFIXES)}), the "
            "folder of a finished run, DEFAULT, or a name of published weights"
        )
    here = found.absolute()
    return str(here.relative_to(Path.cwd())) if here.is_relative_to(Path.cwd()) else str(here)


def _beside(suite: Suite, typed: Mapping[str, str], name: str) -> Suite:
    """The suite with relative folders of images as they lie from that of its file. Raises UserError: as of `path_of`."""

    def placed(entry: Entry) -> Entry:
        if isinstance(entry, str) or not entry.folder:
            return entry
        said = f"dataset.folder = {shown(entry.folder)}"
        place = path_of(entry.folder, f"{_source(said, typed, name)}: {said}", Path(name).parent)
        return entry.model_copy(update={"folder": str(place)})

    return suite.model_copy(update={"dataset": tuple(map(placed, suite.dataset))})


def _source(line: str, typed: Mapping[str, str], name: str) -> str:
    """Where what a line complains of was said: on the command line, else in the file."""
    path = re.split(r" = |: ", line, maxsplit=1)[0]
    return next((given for key, given in typed.items() if re.match(rf"{re.escape(key)}(?![\w])", path)), name)


def read_toml(name_or_path: str) -> dict[str, Any]:
    """What the file of a suite holds, not yet checked. Raises UserError: no such file, unreadable, not TOML."""
    return _parse(_read(name_or_path), name_or_path)


def _read(name_or_path: str) -> str:
    known = shipped()
    source = known.get(name_or_path) or Path(name_or_path)
    try:
        with source.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)  # not to its end, which a device may not have
        if len(content) > LARGEST_BYTES:
            raise UserError(
                f"{name_or_path}: is larger than {LARGEST_BYTES / 1e6:g} MB; allowed: a TOML file of a suite"
            )
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError:
        raise UserError(
            f"{name_or_path}: no such suite; allowed: {', '.join(known)}, or the path of a TOML file"
            f"{did_you_mean(name_or_path, known)}"
        ) from None
    except IsADirectoryError:
        raise UserError(f"{name_or_path}: is a folder; allowed: a TOML file") from None
    except UnicodeDecodeError as e:
        raise UserError(f"{name_or_path}: is not UTF-8 (byte {e.start}); allowed: a TOML file in UTF-8") from None
    except (OSError, ValueError) as e:
        raise UserError(f"{name_or_path}: cannot be read ({getattr(e, 'strerror', None) or e})") from None


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        data = tomllib.loads(text)
        _check_depth(data)
    except RecursionError:
        raise UserError(
            f"{name}: not a suite: lists or tables are nested too deeply; allowed: {DEEPEST} deep"
        ) from None
    except tomllib.TOMLDecodeError as e:
        lines = text.split("\n")
        end = f"at line {len(lines)}, column {len(lines[-1]) + 1}, the end"
        what = str(e).replace("at end of document", end)
        raise UserError(f"{name}: not TOML: {shortened(what, 300)}") from None
    except ValueError as e:  # a date that there is not, a number of 5,000 digits
        raise UserError(f"{name}: not TOML: {shortened(str(e), 300)}") from None
    refuse_large_integers(data, name)
    return data


def _check_depth(data: object, deep: int = 1) -> None:
    """Raises RecursionError."""
    if deep > DEEPEST:
        raise RecursionError
    for each in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        if isinstance(each, dict | list):
            _check_depth(each, deep + 1)
