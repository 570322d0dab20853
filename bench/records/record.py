"""The record of one run: what is stored in `results/<suite>/<key>/record.json`.

Plain data: importable without torch, so that `plots/` and other tools can read results anywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from greenprune.bench.energy.reading import Kind, Reading
from greenprune.bench.records.identity import Identity
from greenprune.bench.records.score import Score
from greenprune.bench.records.stored import write_atomically as write_atomically  # where others look for it
from greenprune.bench.records.stored import write_stored
from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION = 1
RECORD_FILE = "record.json"
MODEL_FILE = "model.safetensors"  # the network, beside it

NEEDED_WHEN_DONE = ("valid", "cost", "ledger", "score", "test_score")
"""What everything that reads a finished run relies on. An invalid one may be so because it has no score."""


class Stored(BaseModel):
    """Base of everything stored: immutable, and an unknown key is an error rather than silence."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SampleMacs(Stored):
    """MACs that single test images really executed, gate heads included, as fractions of the dense network's."""

    images: int = Field(ge=1)  # the first of the test set
    mean: float
    std: float
    low: float
    high: float
    edges: tuple[float, ...]  # of the bins
    counts: tuple[int, ...]  # images in each


class Calibration(Stored):
    """The measurement of all layers that a budget of latency or energy rests on. Units: s or J for one batch."""

    unit: Literal["s", "J"]
    energy_kind: Kind | None = None  # of the joules
    runtime: str = "eager"  # in which it was measured
    made_at: str = ""  # ISO 8601, UTC; all runs of a suite on one machine share a calibration
    device: str
    threads: int
    dtype: str
    memory_format: str
    batch_size: int
    torch_version: str
    rounds: int
    points: int  # (shape, widths) that were measured
    duration_s: float  # that it took, before a training; the same for every method, so not part of the ledger
    whole: float  # the dense network
    layers_sum: float  # all its layers, measured alone
    scale: float  # whole / layers_sum
    unexplained: float  # whole - layers_sum
    slope: float = 1.0  # what whole networks save for each second or joule that their narrower layers save
    closing_slope: float | None = None  # and for each that their closed layers save
    samples: tuple[
        tuple[float, float], ...
    ] = ()  # of the networks that it was fitted to: as of the layers, as measured
    disagreement: float | None = (
        None  # the largest, of these networks with the table or with themselves, of the dense cost
    )


class Cost(Stored):
    """Requested and achieved budget. MACs: multiply-accumulates of every product of matrices, for one image.

    Of MACs and parameters the achieved fraction must lie in [budget - tolerance, budget], of latency and energy within a
    tenth of the budget.
    """

    budget: float  # fraction of the dense cost that may be kept
    tolerance: float
    kind: Literal["macs", "params", "latency", "energy"] = "macs"  # what the budget is stated in
    round_to: int = 1  # groups of channels keep a multiple of so many
    predicted: float | None = None  # fraction of the dense cost by which the units were chosen
    kept_latency: float | None = None  # measured side by side with dense, at the calibration's batch size
    kept_energy: float | None = None  # of the same kind of joules as the calibration's
    calibration: Calibration | None = None  # for latency and energy
    macs: int = Field(ge=0)
    macs_dense: int = Field(ge=1)
    params: int = Field(ge=0)
    params_dense: int = Field(ge=1)
    widths: dict[str, int] = {}  # kept output channels by layer name, 0 for a removed layer
    widths_dense: dict[str, int] = {}
    connections: int | None = None  # nonzero weights of conv and linear layers; where the budget counts them
    connections_dense: int | None = None
    sample_macs: SampleMacs | None = None  # where images cost differently; `macs` is then the mean
    nearest_below: float | None = None  # where the units are too coarse to meet the budget: the nearest that they can
    uncounted: tuple[str, ...] = ()  # operations of the dense network that multiply and are in no count

    @property
    def kept_macs(self) -> float:
        return self.macs / self.macs_dense

    @property
    def kept_params(self) -> float:
        return self.params / self.params_dense

    @property
    def kept(self) -> float | None:
        """The achieved fraction of what the budget counts; None where it could not be measured."""
        if self.connections is not None and self.connections_dense:
            return self.connections / self.connections_dense
        return {
            "macs": self.kept_macs,
            "params": self.kept_params,
            "latency": self.kept_latency,
            "energy": self.kept_energy,
        }[self.kind]


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
    energy_j: dict[Kind, float] = {}  # by kind, where it could be read


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


class Latency(Stored):
    """Latency of one forward pass of a whole batch, and the throughput that it makes."""

    median_ms: float
    p05_ms: float
    p95_ms: float
    p99_ms: float | None = None
    throughput_images_per_s: float | None = None  # over all passes, hiccups included


class Inference(Stored):
    """The pruned network side by side with the dense one: blocks of the two interleaved in seeded random order."""

    batch_size: int = Field(ge=1)
    blocks: int = Field(ge=1)  # interleaved blocks measured of each network
    images: int = Field(ge=1)  # images the pruned network classified while measured
    dense_images: int = Field(ge=1)  # images the dense network classified while measured
    latency: Latency
    dense_latency: Latency
    latency_ratio: float  # pruned / dense: medians of each block, geometric mean over paired blocks
    latency_ratio_low: float  # 95 % bootstrap interval
    latency_ratio_high: float
    energy: Reading  # of all blocks of the pruned network together, for `images` images
    dense_energy: Reading  # for `dense_images` images
    # By kind: joules per image, pruned / dense, geometric mean over paired blocks, and low and high end of its 95 %
    # bootstrap interval. A kind is missing where a block has no valid joules of it above zero.
    energy_ratio: dict[Kind, tuple[float, float, float]] = {}
    # By kind: joules per 1,000 images, and their low and high bound (as of `energy`, not statistical).
    energy_j_per_1000_images: dict[Kind, tuple[float, float, float]] = {}
    dense_energy_j_per_1000_images: dict[Kind, tuple[float, float, float]] = {}


class Served(Stored):
    """The network in a runtime other than eager PyTorch, side by side with the dense network in the same one."""

    runtime: str  # as the suite names it
    precision: Literal["float32", "int8"]
    versions: dict[str, str] = {}  # of the runtime, and of what the network was exported with
    threads: int | None = None  # that a call may use
    difference: float | None = None  # from eager PyTorch in float32: max |difference| / max |output|
    test_score: float | None = None  # of int8: the main score on the test set; in float32 it is that of the record
    inference: tuple[Inference, ...] = ()  # one for each batch size
    problem: str | None = None  # why there is no figure


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
    ours_j: dict[Kind, float] = {}  # our joules over the same time, by kind
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
    files: dict[str, str] = {}  # SHA-256 of what lies beside the record, by name: the network, the power log
    machine: dict[str, Any] = {}  # cpu, cores, memory, gpu, os
    versions: dict[str, str] = {}  # python, torch, greenprune, ...
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
    test_scores: dict[str, float | None] = {}  # all scores of the task, the one above among them
    extra_macs: int = Field(0, ge=0)  # that the task executes for each training image beside the network: a teacher's
    masked_max_abs_diff: float | None = None  # masked against removed network, max |delta logit| when it was removed
    energy: dict[str, Reading] = {}  # by phase: "training", "evaluation"; "redone" where it was interrupted
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
    history: dict[str, Any] = {}  # what a method wants to tell, e.g. gate consensus over time
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
