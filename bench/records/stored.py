"""Storing frozen models as JSON, whole or not at all, and reading them back with one clear sentence for what is wrong.

Every such file ends with a checksum over the rest of it: a figure that was edited by hand is told, not believed. It keeps
nobody from computing it anew; what a record says is checked on its own (`greenprune verify`).
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.foreign import shortened
from pydantic import BaseModel, ConfigDict, ValidationError

S = TypeVar("S", bound=BaseModel)

CHECKSUM = "checksum"
"""The last key of a stored file."""


class Stored(BaseModel):
    """Base of everything stored: immutable, and an unknown key is an error rather than silence."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def write_stored(stored: BaseModel, path: Path) -> Path:
    """Write `stored` to `path` atomically, with its checksum.

    Raises:
        ValueError: a figure is NaN or infinite. JSON has no word for it, and no mean or ratio over it means anything.
    """
    bad = first_not_finite(stored.model_dump())
    if bad:
        raise ValueError(f"{path}: not written, {bad}")
    return write_atomically(path, signed(_readable(stored.model_dump(mode="json"))))


def _readable(data: Any) -> Any:
    """With halves of characters, which a name of a file that is no UTF-8 has and nobody could read again, written out."""
    if isinstance(data, str):
        return data if data.isascii() else data.encode(errors="backslashreplace").decode()
    if isinstance(data, dict):
        return {_readable(name): _readable(value) for name, value in data.items()}
    return [_readable(value) for value in data] if isinstance(data, list) else data


def signed(data: dict[str, Any]) -> str:
    """The text of a stored file that holds `data`, with its checksum."""
    return json.dumps(data | {CHECKSUM: checksum_of(data)}, indent=1, ensure_ascii=False) + "\n"


def checksum_of(data: dict[str, Any]) -> str:
    """SHA-256 of everything but the checksum itself, as JSON without spaces and with sorted keys."""
    rest = {key: value for key, value in data.items() if key != CHECKSUM}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _wrong_checksum(data: dict[str, Any]) -> str | None:
    """Half a sentence about a stored file that holds `data`; None where nothing is."""
    if CHECKSUM not in data:
        return "has no checksum, so it was altered after it was written, or something else wrote it"
    if data[CHECKSUM] != checksum_of(data):
        return "was altered after it was written: its checksum is that of other contents"
    return None


def write_atomically(path: Path, text: str | Iterable[str]) -> Path:
    """Write `text`, whole or in parts, to `path` through a temporary file in the same folder, flushed before the rename.

    Raises OSError, whose `filename` is `path`.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with temporary.open("x", encoding="utf-8", errors="backslashreplace") as f:
            f.writelines([text] if isinstance(text, str) else text)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except OSError as e:
        e.filename, e.filename2 = str(path), None  # of the temporary file nobody has heard
        raise
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read_stored(path: Path, model: type[S], newest: int, what: str) -> S:
    """Read a file of `write_stored`; `newest` is the schema version that this greenprune writes, `what` names the thing.

    Raises:
        UserError: as of `read_record`.
    """
    found, wrong = read_unbelieved(path, model, newest, what)
    if wrong:
        raise UserError(f"{path}: {wrong}; restore it, or delete it and run it again")
    return found


def read_unbelieved(path: Path, model: type[S], newest: int, what: str) -> tuple[S, str | None]:
    """As `read_stored`, whatever the checksum says; and half a sentence on what is wrong with that, or None.

    Raises:
        UserError: it is no such thing.
    """
    try:
        data = read_json(path)
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror or e})") from None
    except (ValueError, RecursionError) as e:
        raise UserError(f"{path}: not {what}, its JSON is broken ({why_broken(e)}); delete it and run again") from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if type(version) is not int:
        raise UserError(f"{path}: not {what}, schema_version is missing")
    if version > newest:
        raise UserError(
            f"{path}: schema_version = {version} is newer than this greenprune understands ({newest}); "
            "install a newer greenprune"
        )
    if version < newest:
        raise UserError(
            f"{path}: schema_version = {version} is older than this greenprune writes ({newest}); run it again"
        )
    bad = first_not_finite(data)
    if bad:
        raise UserError(f"{path}: {bad}; run it again")
    try:
        found = model.model_validate({key: value for key, value in data.items() if key != CHECKSUM})
    except ValidationError as e:
        raise UserError(f"{path}: {_told(e)}; not {what} of schema {newest}") from None
    return found, _wrong_checksum(data)


def _told(error: ValidationError) -> str:
    """What is wrong first of all. A key under another name is unknown and missing: the unknown one is there to be seen."""
    errors = error.errors()
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    where = ".".join(str(p) for p in first["loc"])
    if first["type"] == "extra_forbidden":
        lacking = [each["loc"] for each in errors if each["type"] == "missing"]
        beside = [str(loc[-1]) for loc in lacking if loc[:-1] == first["loc"][:-1]]
        return f"{where}: there is no such key{did_you_mean(str(first['loc'][-1]), beside)}"
    told = first["msg"].removeprefix("Value error, ")  # pydantic's prefix to the sentences of our own validators
    return f"{where}: {told[:1].lower()}{told[1:]}" if where else told


LARGEST_BYTES = 64 * 2**20
"""Of a file of JSON. A record has about 0.1 MiB, with the history of many gates a few."""

LARGEST_INTEGER = 2**63 - 1
DEEPEST = 50


def read_json(path: Path) -> Any:
    """What a file of JSON holds that anybody may have written.

    Raises:
        OSError: it cannot be read, or is no file.
        ValueError: it is no JSON in UTF-8, has half a character, a key twice or an integer beyond 64 bits, is too large or
            nested too deeply.
        RecursionError: it is nested far too deeply.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no file", str(path))  # a pipe would be waited for
    if found.st_size > LARGEST_BYTES:
        raise ValueError(f"it has {found.st_size / 2**20:,.0f} MiB; allowed are {LARGEST_BYTES // 2**20}")
    text = path.read_bytes().decode("utf-8-sig")
    data = json.loads(text, object_pairs_hook=_each_once, parse_int=_int)
    if "\\ud" in text.lower():
        json.dumps(data, ensure_ascii=False).encode()  # half a character, which no table or file takes
    if _depth(data) > DEEPEST:
        raise ValueError(f"nested more than {DEEPEST} deep")
    return data


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {shortened(twice)} is there twice")
    return found


def _int(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > LARGEST_INTEGER:
        raise ValueError(f"{shortened(text, 30)} is beyond 64 bits")
    return int(text)


def _depth(data: object, deep: int = 1) -> int:
    items = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return max([deep, *(_depth(each, deep + 1) for each in items if isinstance(each, dict | list))])


def why_broken(error: Exception) -> str:
    """What is wrong with a file, short enough for a sentence."""
    return "nested too deeply" if isinstance(error, RecursionError) else shortened(str(error), 120)


def first_not_finite(data: object, where: str = "") -> str | None:
    """ "epochs.3.loss is nan" for the first number, at any depth, that is NaN or infinite; None when all are finite."""
    if _all_finite(data):  # nearly always; where it is needs a text for each number
        return None
    if isinstance(data, float):
        return f"{where} is {data}"
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list | tuple) else ()
    parts = (first_not_finite(value, f"{where}.{name}" if where else str(name)) for name, value in items)
    return next((part for part in parts if part), None)


def _all_finite(data: object) -> bool:
    if isinstance(data, float):
        return math.isfinite(data)
    if isinstance(data, dict):
        return all(map(_all_finite, data.values()))
    return all(map(_all_finite, data)) if isinstance(data, list | tuple) else True
