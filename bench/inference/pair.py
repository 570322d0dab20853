"""Latency and energy of the pruned network side by side with the dense one.

Blocks of the two alternate, see repeat.py. A comparison whose latency ratio is not yet known to 2 % after the
seconds that were asked for goes on, for at most as long again; one that says whether a budget was kept, for ten times as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from greenprune.bench.energy import EnergyMeter, Reading
from greenprune.bench.energy.reading import Kind
from greenprune.bench.energy.total import add_readings
from greenprune.bench.inference.repeat import Interval, ratio_interval, repeat_until
from greenprune.bench.machine.precision import autocast_for
from greenprune.bench.records.inference import Inference, Latency
from torch import Tensor, nn

CPU_BLOCK_S = 0.25
GPU_BLOCK_S = 5.0  # at least 50 periods of a 100 ms energy counter
MIN_BLOCKS = 5
WARM_UP_CALLS = 3
RATIO_CI = 0.02  # half width of the latency ratio's 95 % interval, as a fraction, that is narrow enough
LONGER = 2  # times `seconds` at most, to get there
LONGEST = 10  # the same where a budget hangs on it: no training is to be lost to a measurement that was too short


@dataclass(frozen=True)
class _Block:
    """Some calls of one network, in one window."""

    latencies_ms: tuple[float, ...]
    reading: Reading

    @property
    def median_ms(self) -> float:
        """A mean would be that of the machine's hiccups."""
        return float(np.median(self.latencies_ms))


@dataclass(frozen=True)
class Subject:
    """A network that is warm and ready to be measured on one batch."""

    name: str  # of its windows
    call: Callable[[], object]  # one forward pass, until the device has finished it
    calls: int  # that fill a block
    batch_size: int

    @property
    def images_per_block(self) -> int:
        return self.calls * self.batch_size

    def block(self, meter: EnergyMeter) -> _Block:
        return _measure_block(self.call, self.calls, meter, self.name)


def compare(
    pruned: nn.Module,
    dense: nn.Module,
    images: Tensor,
    *,
    batch_size: int,
    seconds: float,
    precision: str,
    meter: EnergyMeter,
    seed: int = 0,
    longer: int = LONGER,
) -> Inference:
    """Measure both networks on batches of `images`, in eval mode.

    Args:
        pruned, dense: on the device of `images`.
        images: (N, C, H, W), normalised; repeated when N < batch_size.
        seconds: measured for each of the two networks at least, `longer` times that at most; warm-up not counted.
        precision: as in training, "auto", "float32" or "bfloat16".
    """
    batch = batch_of(images, batch_size)
    ours = ready(pruned, batch, name="inference", precision=precision)
    reference = ready(dense, batch, name="inference, dense", precision=precision)
    return compare_subjects(
        ours, reference, device=images.device, seconds=seconds, meter=meter, seed=seed, longer=longer
    )


def compare_subjects(
    ours: Subject,
    reference: Subject,
    *,
    device: torch.device,
    seconds: float,
    meter: EnergyMeter,
    seed: int = 0,
    longer: int = LONGER,
) -> Inference:
    """As `compare`, of two that are warm; `reference` is the dense network."""
    blocks = fewest_blocks(seconds, device)
    measured = repeat_until(
        lambda: ours.block(meter),
        lambda: reference.block(meter),
        lambda block: block.median_ms,
        ci=RATIO_CI,
        min_pairs=blocks,
        max_pairs=longer * blocks,
        seed=seed,
    )
    interval = (measured.ratio, measured.low, measured.high)
    return beside(ours, measured.a, reference, measured.b, interval)


def batch_of(images: Tensor, batch_size: int) -> Tensor:
    """(batch_size, C, H, W) of `images`, repeated where there are too few, in their memory format."""
    repeats = -(-batch_size // len(images))
    batch = images.repeat(repeats, 1, 1, 1)[:batch_size]
    if images.is_contiguous(memory_format=torch.channels_last):
        batch = batch.contiguous(memory_format=torch.channels_last)
    return batch


def ready(model: nn.Module, batch: Tensor, *, name: str, precision: str) -> Subject:
    """Warm `model` up on `batch`, in eval mode, and see how many calls fill a block. Raises what `model` raises."""
    autocast = autocast_for(batch.device, precision)
    synchronise = torch.cuda.synchronize if batch.device.type == "cuda" else lambda: None
    model.eval()

    def call() -> object:
        with torch.inference_mode(), autocast():
            result = model(batch)
        synchronise()
        return result

    return warmed(call, batch, name=name)


def warmed(call: Callable[[], object], batch: Tensor, *, name: str) -> Subject:
    """Warm `call`, one forward pass on `batch`, up, and see how many of it fill a block. Raises what it raises."""
    return Subject(name, call, calls_per_block(call, _block_s(batch.device)), len(batch))


def fewest_blocks(seconds: float, device: torch.device) -> int:
    """Blocks that `seconds` of measuring one network are made of, but never too few for an interval."""
    return max(MIN_BLOCKS, round(seconds / _block_s(device)))


def _block_s(device: torch.device) -> float:
    return GPU_BLOCK_S if device.type == "cuda" else CPU_BLOCK_S


def beside(
    ours: Subject,
    blocks: Sequence[_Block],
    reference: Subject,
    reference_blocks: Sequence[_Block],
    interval: Interval,
) -> Inference:
    """What the interleaved blocks of a network and of the dense one say; `interval` is that of their latencies' ratio."""
    readings, dense_readings = ([block.reading for block in side] for side in (blocks, reference_blocks))
    energy, dense_energy = add_readings(ours.name, readings), add_readings(reference.name, dense_readings)
    classified, dense_classified = (len(blocks) * subject.images_per_block for subject in (ours, reference))
    return Inference(
        batch_size=ours.batch_size,
        blocks=len(blocks),
        images=classified,
        dense_images=dense_classified,
        latency=_summary(blocks, ours.batch_size),
        dense_latency=_summary(reference_blocks, reference.batch_size),
        latency_ratio=interval[0],
        latency_ratio_low=interval[1],
        latency_ratio_high=interval[2],
        energy=energy,
        dense_energy=dense_energy,
        energy_ratio=energy_ratios(
            readings,
            dense_readings,
            images_per_block=ours.images_per_block,
            dense_images_per_block=reference.images_per_block,
        ),
        energy_j_per_1000_images=per_1000_images(energy, classified),
        dense_energy_j_per_1000_images=per_1000_images(dense_energy, dense_classified),
    )


def calls_per_block(call: Callable[[], object], block_s: float) -> int:
    """How many calls fill a block; warms up on the way.

    From the median: where other processes interrupt a few calls, a mean would give the same network blocks of quite
    different lengths.
    """
    for _ in range(WARM_UP_CALLS):
        call()
    begun_s = time.perf_counter()
    ends_s = [begun_s]
    while len(ends_s) < 4 or ends_s[-1] - begun_s < block_s / 4:
        call()
        ends_s.append(time.perf_counter())
    return max(1, round(block_s / float(np.median(np.diff(ends_s)))))


def _measure_block(call: Callable[[], object], calls: int, meter: EnergyMeter, name: str) -> _Block:
    latencies_ms = []
    with meter.window(name) as window:
        for _ in range(calls):
            started_s = time.perf_counter()
            call()
            latencies_ms.append((time.perf_counter() - started_s) * 1e3)
    assert window.reading is not None
    return _Block(tuple(latencies_ms), window.reading)


def _summary(blocks: Sequence[_Block], batch_size: int) -> Latency:
    latencies_ms = np.concatenate([block.latencies_ms for block in blocks])
    p05, median, p95, p99 = np.percentile(latencies_ms, [5, 50, 95, 99])
    return Latency(
        median_ms=float(median),
        p05_ms=float(p05),
        p95_ms=float(p95),
        p99_ms=float(p99),
        throughput_images_per_s=float(batch_size * len(latencies_ms) / (latencies_ms.sum() / 1e3)),
    )


def per_1000_images(reading: Reading, images: int) -> dict[Kind, tuple[float, float, float]]:
    """By kind: joules per 1,000 images with their low and high bound; kinds that are not there or invalid are not."""
    found: dict[Kind, tuple[float, float, float]] = {}
    for kind in get_args(Kind):
        energy_j, bounds_j = reading.energy_j(kind), reading.bounds_j(kind)
        if energy_j is not None and bounds_j is not None:
            low, middle, high = (1000 * value / images for value in (bounds_j[0], energy_j, bounds_j[1]))
            found[kind] = (middle, low, high)
    return found


def energy_ratios(
    readings: Sequence[Reading],
    dense_readings: Sequence[Reading],
    *,
    images_per_block: int,
    dense_images_per_block: int,
) -> dict[Kind, tuple[float, float, float]]:
    """Joules per image, pruned / dense, as `ratio_interval` of each kind of energy.

    A kind is left out where a block of either side has no valid joules of it, none above zero (a counter that stood
    still gives no ratio), or not of the same sources as the others.

    Args:
        readings, dense_readings: of the blocks, in the order of the pairs.
        images_per_block, dense_images_per_block: a block lasts equally long for both, so the faster side does more.
    """
    ratios: dict[Kind, tuple[float, float, float]] = {}
    for kind in get_args(Kind):
        blocks = (*readings, *dense_readings)
        joules = [reading.energy_j(kind) for reading in blocks]
        sources = {tuple(sorted(s.name for s in reading.sources if s.kind == kind)) for reading in blocks}
        if len(sources) > 1 or any(j is None or j <= 0 for j in joules):
            continue
        known = [j for j in joules if j is not None]  # all of them; for the type checker
        per_image = [j / images_per_block for j in known[: len(readings)]]
        dense_per_image = [j / dense_images_per_block for j in known[len(readings) :]]
        ratios[kind] = ratio_interval(per_image, dense_per_image)
    return ratios
