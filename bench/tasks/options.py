"""The base of every task's options, and what a suite knows of the tasks here. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


class TaskOptions(BaseModel):
    """Base of every task's options: immutable, unknown keys refused, every field with a description."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class TaskCard:
    """A task as a suite sees it, without importing its file.

    Attributes:
        name: how suites call it.
        reference: the class, as `module:Class`.
        Options: as of the class.
    """

    name: str
    reference: str
    Options: type[TaskOptions] = TaskOptions
