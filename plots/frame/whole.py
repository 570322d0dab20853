"""What of a record is too large to be held for a thousand of them: left out when it is loaded, read again where it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from greenprune.bench.records.record import RECORD_FILE, Epoch, Record
from greenprune.bench.records.stored import read_json
from pydantic import BaseModel, ConfigDict, ValidationError

LARGEST = 100
"""Values in an entry of a record's `history` that is held."""


class _Large(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    epochs: tuple[Epoch, ...] = ()
    history: dict[str, Any] = {}
    energy_sources: tuple[dict[str, Any], ...] = ()


def slim(record: Record) -> Record:
    """Without its epochs and sensors; of its history, None stands for what is large."""
    history = {name: None if _values(value) > LARGEST else value for name, value in record.history.items()}
    return record.model_copy(update={"epochs": (), "energy_sources": (), "history": history})


def whole(record: Record, place: Path) -> Record:
    """The record with all that it has. `place`: the folder it lies in; should it be gone since, what is known stays."""
    try:
        large = _Large.model_validate(read_json(place / RECORD_FILE))
    except (OSError, ValueError, RecursionError, ValidationError):
        return record
    return record.model_copy(update={name: getattr(large, name) for name in _Large.model_fields})


def _values(value: Any) -> int:
    """How many values there are in nested lists and dictionaries, counted no further than needed."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return 1
    found = 0
    for each in value:
        found += _values(each)
        if found > LARGEST:
            break
    return found
