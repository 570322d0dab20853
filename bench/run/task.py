"""One run as an engine is given it: all that is needed to do it, here or on another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from greenprune.bench.plan.plan import Run
from greenprune.bench.records.identity import Identity
from greenprune.bench.run.job import Job
from greenprune.bench.run.shares import OTHERS, Share
from greenprune.bench.suite.recipe import Running
from greenprune.bench.suite.settings import Settings
from pydantic import BaseModel, ConfigDict, Field


class Task(BaseModel):
    """One run of a suite. Its length may follow from other runs, which have to end before it begins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: str
    key: str
    settings: Settings
    pilot: str = ""  # as of `Run`
    dense: str = ""
    results: str  # results/<suite>
    data_root: str | None = None
    data_folder: str | None = None
    command: str = ""  # that the user typed
    overrides: tuple[str, ...] = ()
    identity: Identity | None = None
    remake: bool = False  # a complete run whose network is gone is run again
    failed_at: str = ""  # when it failed, of the record that was there when the suite was started
    running: Running = Field(default_factory=Running)

    @property
    def after(self) -> tuple[str, ...]:
        """Keys of the runs that have to end before."""
        return tuple(key for key in (self.pilot, self.dense) if key)

    @property
    def run(self) -> Run:
        """As it was planned."""
        return Run(self.key, self.settings, self.pilot, self.dense)

    @property
    def folder(self) -> Path:
        """Of the run's record."""
        return Path(self.results) / self.key

    def job(self, run: Run, share: Share, jobs: int, shared: str = "") -> Job:
        """What the process of the run is told.

        Args:
            run: with its length.
            share: what it has to itself.
            jobs: runs at a time on this machine.
            shared: as of `Job`; of runs at a time on GPUs of their own it is known.
        """
        return Job(
            suite=self.suite,
            key=self.key,
            settings=run.settings,
            data_root=self.data_root,
            data_folder=self.data_folder,
            folder=str(self.folder),
            command=self.command,
            overrides=self.overrides,
            share=share,
            jobs=jobs,
            shared=shared or (OTHERS if share.gpu_uuids and jobs > 1 else ""),
            checkpoint_minutes=self.running.checkpoint_minutes,
            identity=self.identity,
        )


Status = Literal["done", "failed", "kept", "unneeded", "stopped"]
"""How a run ended: "kept" was complete before, "unneeded" is equal to dense as its pilot is, "stopped" goes on when it is
started again."""
