"""What a record says of inference: the network side by side with the dense one."""

from __future__ import annotations

from typing import Literal

from greenprune.bench.energy.reading import Kind, Reading
from greenprune.bench.records.stored import Stored
from pydantic import Field


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
    latency_ratio_low: float  # 95 % interval over paired blocks
    latency_ratio_high: float
    energy: Reading  # of all blocks of the pruned network together, for `images` images
    dense_energy: Reading  # for `dense_images` images
    # By kind: joules per image, pruned / dense, geometric mean over paired blocks, and low and high end of its 95 %
    # interval. A kind is missing where a block has no valid joules of it above zero.
    energy_ratio: dict[Kind, tuple[float, float, float]] = Field(default_factory=dict)
    # By kind: joules per 1,000 images, and their low and high bound (as of `energy`, not statistical).
    energy_j_per_1000_images: dict[Kind, tuple[float, float, float]] = Field(default_factory=dict)
    dense_energy_j_per_1000_images: dict[Kind, tuple[float, float, float]] = Field(default_factory=dict)


class Served(Stored):
    """The network in a runtime other than eager PyTorch, side by side with the dense network in the same one."""

    runtime: str  # as the suite names it
    precision: Literal["float32", "int8"]
    versions: dict[str, str] = Field(default_factory=dict)  # of the runtime, and of what the network was exported with
    threads: int | None = None  # that a call may use
    difference: float | None = None  # from eager PyTorch in float32: max |difference| / max |output|
    test_score: float | None = None  # of int8: the main score on the test set; in float32 it is that of the record
    inference: tuple[Inference, ...] = ()  # one for each batch size at which it ran
    problem: str | None = None  # why figures are missing
