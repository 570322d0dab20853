"""What a run was made of, beside its settings; and in words what tells two runs apart.

Plain data, importable without torch. `greenprune.bench.training.identity` finds it out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from greenprune.bench.records.stored import read_stored, write_stored
from pydantic import BaseModel, ConfigDict

IDENTITY_FILE = "identity.json"
BEGUN_SCHEMA_VERSION = 1

MADE_OF = {
    "data": "other images or labels",
    "network": "another definition of the network",
    "weights": "other initial weights",
    "method": "other files of the method",
    "task": "another task or teacher",
    "precision": "another precision",
    "code": "other files of the code that the recipe names",
}
"""Parts that two runs of one experiment must have in common, and what it means where they differ."""

NOTED = {"torch": "another version of torch", "processor": "another processor"}
"""Parts that are noted, and told where they differ: the results of both are worth having, but not bit for bit the same."""


class Identity(BaseModel):
    """What a run was made of. None: that was not recorded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str | None = None  # SHA-256 of the images and labels of all three parts
    network: str | None = (
        None  # SHA-256 of the dense network's structure: modules, their settings, and what forward does
    )
    weights: str | None = None  # SHA-256 of its initial weights at the run's seed
    method: str | None = None  # SHA-256 of the method's file, and of those in greenprune.methods that it stands on
    task: str | None = (
        None  # SHA-256 of a task's own file and of what it loads; None for tasks of greenprune that load nothing
    )
    torch: str | None = None  # version
    processor: str | None = None  # that the training was computed on: GPU or CPU
    precision: str | None = None  # of the training: "float32" or "bfloat16"
    code: str | None = (
        None  # SHA-256 of the files of the user's own functions that the recipe names; None: it names none
    )


def shown(value: object) -> str:
    """A part of an identity for a sentence: of a hash its beginning."""
    if value is None:
        return "not recorded"
    text = str(value)
    return text[:12] if len(text) == 64 else text


def differing(old: Identity | None, new: Identity | None, names: tuple[str, ...] = tuple(MADE_OF)) -> tuple[str, ...]:
    """The parts called `names` in which two runs differ: `data: 03f1... -> 9b2e..., other images or labels`.

    A part that one of them has not recorded differs from one that the other has: nobody knows whether it is the same.
    """
    before, after = ((each or Identity()).model_dump() for each in (old, new))
    means = {**MADE_OF, **NOTED}
    return tuple(
        f"{name}: {shown(before[name])} -> {shown(after[name])}, {means[name]}"
        for name in names
        if before[name] != after[name]
    )


def differences(old: object, new: object, path: str = "") -> tuple[str, ...]:
    """Paths of the values in which two nested dicts differ, e.g. "training.epochs: 8 -> 10"."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*new, *old])
        found = (differences(old.get(k), new.get(k), f"{path}.{k}" if path else str(k)) for k in keys)
        return tuple(line for part in found for line in part)
    return () if old == new else (f"{path}: {old} -> {new}",)


class Begun(BaseModel):
    """What lies in a run's folder before it begins: `identity.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = BEGUN_SCHEMA_VERSION
    key: str
    settings: dict[str, Any]
    identity: Identity


def write_begun(begun: Begun, folder: Path) -> Path:
    """Write `folder/identity.json` atomically."""
    return write_stored(begun, folder / IDENTITY_FILE)


def read_begun(folder: Path) -> Begun | None:
    """What was said before the run in `folder` began; None where nothing was. Raises UserError."""
    path = folder / IDENTITY_FILE
    return read_stored(path, Begun, BEGUN_SCHEMA_VERSION, "an identity") if path.exists() else None
