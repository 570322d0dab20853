"""What a record says of the budget: what was asked for, what the network costs, and by which measurement."""

from __future__ import annotations

from typing import Literal

from greenprune.bench.energy.reading import Kind
from greenprune.bench.records.stored import Stored
from pydantic import Field


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
    widths: dict[str, int] = Field(default_factory=dict)  # kept output channels by layer name, 0 for a removed layer
    widths_dense: dict[str, int] = Field(default_factory=dict)
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
