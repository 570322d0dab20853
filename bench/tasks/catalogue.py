"""The tasks by name: those here, and any class as `module:Class`. The class is imported when a run needs it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from greenprune.bench.data.reference import brief, named
from greenprune.bench.errors import UserError, did_you_mean
from greenprune.bench.tasks.options import (
    DistillationOptions,
    RegressionOptions,
    SegmentationOptions,
    TaskCard,
    TaskOptions,
)
from greenprune.methods.plugins import REFERENCE
from pydantic import ValidationError

if TYPE_CHECKING:
    from greenprune.bench.tasks.task import Task

DEFAULT = "classification"

TASKS: dict[str, TaskCard] = {
    card.name: card
    for card in (
        TaskCard("classification", "greenprune.bench.tasks.classification:Classification"),
        TaskCard("multilabel", "greenprune.bench.tasks.multilabel:Multilabel"),
        TaskCard("segmentation", "greenprune.bench.tasks.segmentation:Segmentation", SegmentationOptions),
        TaskCard("regression", "greenprune.bench.tasks.regression:Regression", RegressionOptions),
        TaskCard("distillation", "greenprune.bench.tasks.distillation:Distillation", DistillationOptions),
    )
}
"""A card says what its class says; a test compares them."""


def options_of(name: str) -> type[TaskOptions]:
    """The options of the task called `name`; of `module:Class` this imports the module.

    Raises:
        UserError: there is no such task, or it cannot be used.
    """
    return TASKS[name].Options if name in TASKS else _class_of(name).Options


def make_task(name: str, options: Any = None) -> Task:
    """The task called `name`, or of the class `module:Class`.

    Args:
        options: an instance of its options, or a table of them; None for the defaults.

    Raises:
        UserError: there is none, it cannot be used, or it does not take these options.
    """
    kind = _class_of(TASKS[name].reference if name in TASKS else name)
    if isinstance(options, TaskOptions):
        options = options.model_dump()
    try:
        chosen: Any = kind.Options.model_validate(options or {})
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"task {name}: options.{where}: {first['msg']}") from None
    parts = [make_task(chosen.of, chosen.of_options)] if name == "distillation" else []
    return _made(kind, name, chosen, *parts)


def _made(kind: type[Task], name: str, *arguments: Any) -> Task:
    """Of a user's own, with what its constructor says and leaves as a sentence."""
    from greenprune.bench.records.score import Score

    if name in TASKS:
        return kind(*arguments)
    try:
        task = kind(*arguments)
        scores = task.scores
    except KeyboardInterrupt:
        raise
    except BaseException as e:  # somebody else's constructor
        raise UserError(f'task = "{name}": making it failed with {brief(e)}') from e
    if not (isinstance(scores, tuple) and scores and all(isinstance(score, Score) for score in scores)):
        raise UserError(
            f'task = "{name}": its scores are {scores!r:.80}; allowed is a tuple of Score, the main one first'
        )
    return task


def is_users_own(name: str) -> bool:
    """Whether making this task imports a module that its name names."""
    return name not in TASKS


def _class_of(name: str) -> type[Task]:
    if not re.match(REFERENCE, name):
        raise UserError(
            f'task = "{name}" is unknown{did_you_mean(name, list(TASKS))}; allowed: {", ".join(TASKS)}, or '
            "package.module:Task"
        )
    found = named("task", name)
    problem = _what_lacks(found)
    if problem is not None:
        raise UserError(f'task = "{name}": {problem}')
    return found


def _what_lacks(candidate: object) -> str | None:
    """What is missing in `candidate` for a task; None when it is complete."""
    from greenprune.bench.tasks.task import Task  # late: it imports torch

    if not isinstance(candidate, type) or not issubclass(candidate, Task):
        parts = ", ".join(sorted(Task.__abstractmethods__))
        return f"is not a subclass of greenprune.bench.tasks.task.Task; it lacks {parts}"
    if missing := sorted(candidate.__abstractmethods__):
        return f"lacks {', '.join(missing)}"
    if not isinstance(candidate.Options, type) or not issubclass(candidate.Options, TaskOptions):
        return "has Options that are not a subclass of greenprune.bench.tasks.options.TaskOptions"
    return None
