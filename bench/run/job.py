"""What the launcher hands to the process that does one run."""

from __future__ import annotations

from greenprune.bench.records.identity import Identity
from greenprune.bench.run.shares import ALONE, Share
from greenprune.bench.suite.settings import Settings
from pydantic import BaseModel, ConfigDict

STOPPED = 75
"""Exit code of a worker that was asked to stop, as EX_TEMPFAIL of sysexits.h: start it again to go on."""


class Job(BaseModel):
    """What the launcher hands over."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: str
    key: str
    settings: Settings
    data_root: str | None
    data_folder: str | None = None  # where the images of a table with a folder lie
    folder: str  # where record.json and model.safetensors go
    command: str  # that the user typed
    overrides: tuple[str, ...] = ()  # what of it changed the suite
    share: Share = ALONE  # what it has to itself
    jobs: int = 1  # workers at a time
    shared: str = ""  # why what counts the whole machine is not this run's alone; empty: it counts
    noted: bool = False  # whether the launcher notes which runs go on beside it
    checkpoint_minutes: float = 5.0  # between two checkpoints of the training
    identity: Identity | None = None  # what the run is made of, as the launcher found it; None: it did not ask
    trial: bool = False  # train for `tune`: look at the held-out images alone, store nothing
