"""The record of one run: what is stored in `results/<suite>/<key>/record.json`.

Plain data: importable without torch, so that `plots/` and other tools can read results anywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from greenprune.bench.energy.reading import Kind, Reading
from greenprune.bench.records.cost import Cost
from greenprune.bench.records.identity import Identity
from greenprune.bench.records.inference import Inference, Served
from greenprune.bench.records.score import Score
from greenprune.bench.records.stored import Stored, write_stored
from pydantic import Field, model_validator

SCHEMA_VERSION = 1
RECORD_FILE = "record.json"
MODEL_FILE = "model.safetensors"  # the network, beside it

NEEDED_WHEN_DONE = ("valid", "cost", "ledger", "score", "test_score")
"""What everything that reads a finished run relies on. An invalid one may be so because it has no score."""


class Epoch(Stored):
    """One pass over the training samples."""

    epoch: int  # from 1
    phase: str  # the method's name for what it was doing, e.g. "search", "train", "fine-tune"
    loss: float
    train_score: float | None  # on the augmented batches as they were trained; None: not a finite number
    holdout_score: float | None  # on the held-out tenth
    kept_macs: (
        float  # fraction of the dense MACs the network costs at the end of the epoch (expected, while gates are open)
    )
    learning_rate: float
    duration_s: float


class LedgerEntry(Stored):
    """What one phase of a method spent."""

    phase: str
    samples: int
    forward_macs: (
        int  # multiply-accumulates of the forward passes really executed (backward costs about twice that again)
    )
    duration_s: float
    energy_j: dict[Kind, float] = Field(default_factory=dict)  # by kind, where it could be read


class Ledger(Stored):
    """What the run was allowed and what it spent. Every phase of a method is charged."""

    allowance_samples: int
    allowance_forward_macs: int | None = None
    allowance_j: float | None = None
    entries: tuple[LedgerEntry, ...]
    redone: LedgerEntry | None = None  # done twice, because the run was interrupted; in none of `entries`

    @property
    def redone_share(self) -> float:
        """Seconds of what was done twice, as a fraction of those of the training."""
        training_s = sum(e.duration_s for e in self.entries)
        return 0.0 if self.redone is None or training_s <= 0 else self.redone.duration_s / training_s

    @property
    def samples(self) -> int:
        return sum(e.samples for e in self.entries)

    @property
    def forward_macs(self) -> int:
        return sum(e.forward_macs for e in self.entries)


class Emissions(Stored):
    """CO2 equivalent of the run, from joules x grid intensity. Kinds are kept apart, as with joules."""

    country: str  # ISO 3166 alpha-3
    grid_gco2e_per_kwh: float
    source: str  # where the intensity comes from
    region: str | None = None  # province, state or zone; None: the intensity is the country's
    cloud: tuple[str, str] | None = None  # provider and region
    year: int | None = None  # of the intensity; None: its source does not say
    pue: float = 1.0  # power usage effectiveness, which the grams below include
    training_gco2e: dict[str, float]  # by kind: {"modelled": 1.2}


class RankPart(Stored):
    """What one of the ranks of a training on several devices read of its energy. The training's is that of all of them."""

    rank: int = Field(ge=0)
    node: int = Field(ge=0)
    device: str
    energy: Reading  # of the first rank of a node: its sensors, too


class Loading(Stored):
    """How images came to the training, where they did not lie on the device."""

    workers: int = Field(ge=0)  # processes that read ahead; 0: none, the training read each image itself
    waited_s: float = Field(ge=0)  # seconds that the training waited for images
    waited_share: float = Field(ge=0)  # of the seconds of the training


class CrossCheck(Stored):
    """What another energy meter made of the training, validation included. Never part of a sum of ours."""

    tool: Literal["codecarbon", "zeus"]
    version: str | None = None
    duration_s: float | None = None
    cpu_j: float | None = None  # None: it has no such figure
    gpu_j: float | None = None
    ram_j: float | None = None
    ours_j: dict[Kind, float] = Field(default_factory=dict)  # our joules over the same time, by kind
    overhead_s: float | None = None  # CPU time that the tool took at start and end
    problem: str | None = None


class Neighbour(Stored):
    """A run of the same start that went on while this one did, at least for a while."""

    key: str
    gpus: tuple[str, ...] = ()  # its own, "nvml:3"; empty: it had none of its own
    gpu_uuids: tuple[str, ...] = ()
    cores: int = Field(0, ge=0)  # that it had to itself; 0: any


class Failure(Stored):
    """Why a run has no result."""

    reason: str  # "killed by signal 11 (SIGSEGV)", "exit code 1", ...
    last_output: str


class Record(Stored):
    """One run of one (method, budget, seed). `status` is "done" only when every figure below is there."""

    schema_version: int = SCHEMA_VERSION
    status: Literal["done", "failed"]
    suite: str
    key: str
    method: str  # label within the suite
    method_name: str  # registered name
    budget: float
    seed: int
    settings: dict[str, Any]  # everything that defines the run; a record is reused only for equal settings
    identity: Identity = Identity()  # what it was made of, beside its settings; nor is it reused where that differs
    files: dict[str, str] = Field(
        default_factory=dict
    )  # SHA-256 of what lies beside the record, by name: the network, the power log
    machine: dict[str, Any] = Field(default_factory=dict)  # cpu, cores, memory, gpu, os
    versions: dict[str, str] = Field(default_factory=dict)  # python, torch, greenprune, ...
    command: str = ""
    overrides: tuple[str, ...] = ()  # what the command line changed in the suite: "training.epochs = 24"
    started_at: str = ""  # ISO 8601, UTC
    finished_at: str = ""

    # Present when status == "done":
    valid: bool | None = None  # kept the budget and the ledger
    invalid_reason: str | None = None
    cost: Cost | None = None
    ledger: Ledger | None = None
    epochs: tuple[Epoch, ...] = ()
    score: Score | None = None  # what the three below are, with their unit and direction
    train_score: float | None = None  # the last epoch counts; None: not a finite number
    holdout_score: float | None = None
    test_score: float | None = None  # evaluated once, after training
    test_scores: dict[str, float | None] = Field(
        default_factory=dict
    )  # all scores of the task, the one above among them
    extra_macs: int = Field(0, ge=0)  # that the task executes for each training image beside the network: a teacher's
    masked_max_abs_diff: float | None = None  # masked against removed network, max |delta logit| when it was removed
    energy: dict[str, Reading] = Field(
        default_factory=dict
    )  # by phase: "training", "evaluation"; "redone" where it was interrupted
    ranks: tuple[RankPart, ...] = ()  # of a training on several devices, one for each; empty: on one
    loading: Loading | None = None  # None: all images lay on the device
    interruptions: int = Field(0, ge=0)  # how often the run was ended and went on
    checkpoints: int = Field(0, ge=0)  # how often it was saved meanwhile
    checkpoint_s: float = 0.0  # seconds that took, in none of the training's
    crosscheck: tuple[CrossCheck, ...] = ()  # where the suite asks for it
    energy_sources: tuple[dict[str, Any], ...] = ()  # what `EnergyMeter.describe` found, idle power included
    inference: tuple[Inference, ...] = ()  # in eager PyTorch
    served: tuple[Served, ...] = ()  # in the other runtimes that the suite names
    emissions: Emissions | None = None
    history: dict[str, Any] = Field(default_factory=dict)  # what a method wants to tell, e.g. gate consensus over time
    warnings: tuple[str, ...] = ()
    beside: tuple[Neighbour, ...] | None = None  # what ran on this machine at the same time; None: nobody noted it

    failure: Failure | None = None

    @property
    def pair(self) -> tuple[str, str]:
        """The data set and the network; runs of others are not compared with this one."""
        return str(self.settings.get("dataset", "")), str(self.settings.get("model", ""))

    @property
    def task(self) -> str:
        """Its name."""
        found = self.settings.get("task")
        return str(found.get("name", "")) if isinstance(found, dict) else ""

    @model_validator(mode="after")
    def _done_is_complete(self) -> Self:
        missing = [name for name in NEEDED_WHEN_DONE if getattr(self, name) is None]
        if self.valid is False and "test_score" in missing:
            missing.remove("test_score")
        if self.status == "done" and missing:
            raise ValueError(f'status is "done", but {missing[0]} is missing')
        return self


def write_record(record: Record, folder: Path) -> Path:
    """Write `folder/record.json` atomically: a reader sees the old file or the new one, never half of one.

    Raises:
        ValueError: as of `write_stored`.
    """
    return write_stored(record, folder / RECORD_FILE)
