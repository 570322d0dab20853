"""Storing frozen models as JSON, whole or not at all, and reading them back with one clear sentence for what is wrong."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TypeVar

from greenprune.bench.errors import UserError
from pydantic import BaseModel, ValidationError

S = TypeVar("S", bound=BaseModel)


def write_stored(stored: BaseModel, path: Path) -> Path:
    """Write `stored` to `path` atomically.

    Raises:
        ValueError: a figure is NaN or infinite. JSON has no word for it, and no mean or ratio over it means anything.
    """
    bad = _first_not_finite(stored.model_dump())
    if bad:
        raise ValueError(f"{path}: not written, {bad}")
    return write_atomically(path, stored.model_dump_json(indent=1) + "\n")


def write_atomically(path: Path, text: str) -> Path:
    """Write `text` to `path` through a temporary file in the same folder, flushed to disk before the rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as f:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read_stored(path: Path, model: type[S], newest: int, what: str) -> S:
    """Read a file of `write_stored`; `newest` is the schema version that this greenprune writes, `what` names the thing.

    Raises:
        UserError: as of `read_record`.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror})") from None
    except (ValueError, RecursionError) as e:
        raise UserError(f"{path}: not {what}, its JSON is broken ({e}); delete it and run again") from None
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
    bad = _first_not_finite(data)
    if bad:
        raise UserError(f"{path}: {bad}; run it again")
    try:
        return model.model_validate(data)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        told = first["msg"].removeprefix("Value error, ")  # pydantic's prefix to the sentences of our own validators
        told = f"{where}: {told[:1].lower()}{told[1:]}" if where else told
        raise UserError(f"{path}: {told}; not {what} of schema {newest}") from None


def _first_not_finite(data: object, where: str = "") -> str | None:
    """ "epochs.3.loss is nan" for the first number, at any depth, that is NaN or infinite; None when all are finite."""
    if isinstance(data, float):
        return None if math.isfinite(data) else f"{where} is {data}"
    items: list[tuple[object, object]] = []
    if isinstance(data, dict):
        items = list(data.items())
    elif isinstance(data, list | tuple):
        items = list(enumerate(data))
    parts = (_first_not_finite(value, f"{where}.{name}" if where else str(name)) for name, value in items)
    return next((part for part in parts if part), None)
