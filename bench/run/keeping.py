"""How a run in a process of its own is kept and stopped."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from pathlib import Path

from greenprune.bench.records.identity import Identity
from greenprune.bench.run.job import STOPPED, Job
from greenprune.bench.training.identity import for_checkpoint
from greenprune.bench.training.keeper import Keeper

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)

keepers: list[Keeper] = []
"""Of the trainings of this process."""


def heed_stops() -> None:
    """Stop on a signal: in a training after the step that is running, and saved; at once anywhere else."""

    def stop(number: int, frame: object) -> None:
        training = [keeper for keeper in keepers if keeper.active]
        if not training:
            os._exit(STOPPED)
        for keeper in training:
            keeper.stop = f"stopped by {signal.Signals(number).name}"

    for number in STOPS:
        signal.signal(number, stop)


def keeper_of(job: Job, identity: Identity) -> Keeper:
    """What keeps the training of this job."""
    folder = Path(job.folder)
    keeper = Keeper(
        folder,
        for_checkpoint(job.settings, identity),
        interval_s=60.0 * job.checkpoint_minutes,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        suite=folder.parents[1] if job.trial else None,  # trials lie in the folder of their search
    )
    keepers.append(keeper)
    return keeper
