"""Everything that defines a run."""

from __future__ import annotations

from greenprune.bench.data.options import DataOptions
from greenprune.bench.suite.entry import MethodEntry
from greenprune.bench.suite.measurement import Measurement
from greenprune.bench.suite.recipe import Allowance, Training
from greenprune.bench.suite.task import TaskEntry
from greenprune.bench.suite.views import View
from greenprune.methods.cost.kinds import CostKind
from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Everything that defines a run. Two runs with equal settings are the same run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    images: dict[str, int]  # number of images in train, holdout, test
    model: str
    task: TaskEntry = TaskEntry()
    method: MethodEntry
    budget: float
    tolerance: float
    seed: int
    training: Training
    measurement: Measurement
    device: str
    allowance: Allowance | None = None
    cost: CostKind = "macs"
    budget_batch_size: int | None = None  # that a budget of time or energy is stated for; None: the largest measured
    budget_runtime: str = "eager"  # and in which it holds
    round_to: int = 1
    steps: int | None = None  # optimizer steps; None: those of the recipe's epochs
    weights: str | None = None  # where those lie, or what they are called, that it starts from; None: drawn at the seed
    view: View = "samples"  # what the run was made equal to dense in
    data: DataOptions | None = (
        None  # what the suite says of the data set beside its name; a folder without where it lies
    )
