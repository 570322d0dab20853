"""What a record can be checked with: data, the form of its images, and what may be imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from greenprune.bench.data.data import Dataset
from greenprune.bench.data.names import CLASSES, PUBLISHED
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened
from greenprune.bench.models.kinds.kind import SMALL as IMAGE
from greenprune.bench.models.named import is_users_own
from greenprune.bench.records.record import Record
from greenprune.bench.records.store import about_stored
from greenprune.bench.tasks import catalogue
from greenprune.bench.tasks.task import Task

UNTRUSTED = "needs code of its own, {name}: where you know it, say --trust"


@dataclass(frozen=True)
class Means:
    """What a record can be checked with.

    Attributes:
        data_of: the data of a record, or why it cannot be had.
        trust: whether networks and methods `module:name` that a record names may be imported, and so run.
    """

    data_of: Callable[[Record], Dataset | str]
    trust: bool = False

    def refuses(self, name: str) -> str | None:
        """Why what a record calls `name` is not looked at, or None."""
        return UNTRUSTED.format(name=shortened(name)) if is_users_own(name) and not self.trust else None

    def task_of(self, record: Record) -> Task | str:
        """The task of a record, or why it cannot be had."""
        stated = record.settings.get("task")
        options = stated.get("options") if isinstance(stated, dict) else None
        if catalogue.is_users_own(record.task) and not self.trust:
            return UNTRUSTED.format(name=shortened(record.task))
        try:
            return catalogue.make_task(record.task, options)
        except UserError as e:
            return str(e)


@dataclass(frozen=True)
class Form:
    """Of the images that a run's network takes, and of what it gives."""

    shape: tuple[int, int, int]
    classes: int


def form_of(record: Record, folder: Path, means: Means) -> Form | None:
    """As the data set says that the record names; else as is stored with the network; None where neither is there."""
    name = record.pair[0]
    if record.settings.get("data") is None and name in PUBLISHED:
        return Form(IMAGE, CLASSES[name])
    data = means.data_of(record)
    if not isinstance(data, str):
        return Form(data.shape, data.classes)
    try:
        about = about_stored(folder)
    except UserError:
        return None
    return Form(about.input_shape, about.classes)
