"""What a suite says of a task, and what it knows of the tasks here. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


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


class SegmentationOptions(TaskOptions):
    ignore_index: int = Field(
        255, ge=-(2**31), lt=2**31, description="in a mask: a pixel that counts for nothing; crops add such pixels"
    )
    auxiliary_weight: float = Field(
        0.4, ge=0, description='weight of the loss of a second output, which a network returns under the name "aux"'
    )


class RegressionOptions(TaskOptions):
    unit: str = Field(
        "", max_length=20, pattern=r"^[^,$\n\r]*$", description="of the targets, for tables and figures: m, years"
    )


class DistillationOptions(TaskOptions):
    teacher: str = Field(
        min_length=1,
        max_length=1000,
        description="the network to learn from: the folder of a finished run, or package.module:factory",
    )
    of: str = Field("classification", description="the task that teacher and network share, by name")
    of_options: dict[str, Any] = Field({}, description="its options")
    weight: float = Field(0.9, ge=0, le=1, description="share of the loss that asks for the teacher's outputs")
    temperature: float = Field(
        4.0, gt=0, le=100, description="by which the outputs of both are divided before they meet"
    )
