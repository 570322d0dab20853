"""Two tasks, one of which makes the length of the other, and what Slurm tells of their jobs."""

from __future__ import annotations

from pathlib import Path

from greenprune.bench.engines.cluster.queue import Queued
from greenprune.bench.engines.cluster.stored import Jobs, write_jobs
from greenprune.bench.run.task import Task
from greenprune.bench.suite.entry import MethodEntry
from greenprune.bench.suite.measurement import Measurement
from greenprune.bench.suite.recipe import Training
from greenprune.bench.suite.settings import Settings

PENDING = Queued("PENDING", "Priority")
PILOT, WAITS = "pilot-0.5-s0", "gated-0.5-s0"


def both(folder: Path) -> tuple[Task, Task]:
    """The pilot, and what waits for it."""
    settings = Settings(
        dataset="digits",
        images={"train": 640},
        model="resnet20",
        method=MethodEntry(name="gated"),
        budget=0.5,
        tolerance=0.02,
        seed=0,
        training=Training(epochs=1, batch_size=64),
        measurement=Measurement(),
        device="cpu",
    )
    pilot = Task(suite="mine", key=PILOT, settings=settings, results=str(folder))
    return pilot, pilot.model_copy(update={"key": WAITS, "pilot": PILOT})


def submitted(folder: Path, pilot: str, waits: str = "", measuring: str | None = None) -> None:
    """These jobs."""
    runs = {key: job for key, job in {PILOT: pilot, WAITS: waits}.items() if job}
    write_jobs(Jobs(runs=runs, measuring=measuring), folder)
