"""What an engine is: it does runs somewhere, and tells what happens to them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from greenprune.bench.inference.job import JointJob
from greenprune.bench.plan.cluster import Site
from greenprune.bench.run.shares import ALONE, Share
from greenprune.bench.run.task import Status, Task
from greenprune.bench.suite.recipe import Running
from pydantic import BaseModel, ConfigDict

STARTED, ENDED = "started", "ended"

MEASURING = "measuring"
"""In the place of a run's key: what measures all networks side by side."""


@dataclass(frozen=True)
class Event:
    """What happened to a run.

    Attributes:
        told: "event" says what: "started", "ended" with "status" (a `Status`) and "said" (one line), or what the process of
            the run tells (`greenprune.bench.run.worker`).
    """

    key: str
    told: Mapping[str, Any]


Tell = Callable[[Event], None]


def started(key: str) -> Event:
    return Event(key, {"event": STARTED})


def ended(key: str, status: Status, said: str = "") -> Event:
    return Event(key, {"event": ENDED, "status": status, "said": said})


@dataclass(frozen=True)
class Place:
    """What the command line says about where runs are done.

    Attributes:
        device: "cpu" or "cuda".
        shares: what each run at a time on this machine has to itself; see `shares.shares_of`.
        running: when a run is given up.
        say: shows the user a line.
    """

    device: str = "cpu"
    shares: Sequence[Share] = (ALONE,)
    running: Running = field(default_factory=Running)
    say: Callable[[str], None] = lambda line: None


class Options(BaseModel):
    """What `--engine-config` may say to an engine; the base of each engine's own. Unknown keys are refused, and types are not
    converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def device(self, asked: str) -> str | None:
        """The device of the runs, "cpu" or "cuda", where `asked` is what the command line says; None: what is here decides.

        Raises:
            UserError: the engine's runs have no such device.
        """
        return None

    def site(self, asked: Site) -> Site:
        """What runs have to work with, for a plan: `asked`, with what the options say."""
        return asked


class Engine(Protocol):
    """Where runs are done. An engine is made by `catalogue.make`."""

    name: str
    elsewhere: bool  # whether runs are done on other machines than this one

    def submit(self, tasks: Sequence[Task], tell: Tell, measuring: JointJob | None = None) -> None:
        """Do `tasks`, tell what happens as it does, and return when all of them have ended.

        A run of which others make the length (`Task.after`) begins when those have ended, well or not. One run's failure
        ends no other. Every task ends with one "ended" event.

        Args:
            measuring: what is to be measured side by side when all have ended; for an engine that arranges it ahead.

        Raises:
            UserError: they cannot be done here, or a disk became full.
            Stopped: this process was asked to stop. What that does to runs is the engine's own: those of `local` are saved
                and end; those of a cluster go on.
        """

    def resume(self, folder: Path) -> Mapping[str, str]:
        """The runs in `folder` (results/<suite>) that an earlier start has queued or is doing, each in words.

        `submit` takes them up: it starts none of them again.
        """

    def measure(self, job: JointJob) -> int:
        """Have all networks measured side by side, and wait; 0, or the exit code of what failed and said why."""

    def cancel(self, folder: Path, leaving: Collection[str] = ()) -> Iterable[tuple[str, str]]:
        """End what is queued and running in `folder`, saved where it can be.

        Args:
            leaving: keys of what another engine has ended, which is left alone.

        Yields:
            The key of what was ended, and in words how.

        Raises:
            UserError: some of it could not be ended; what could was before.
        """
