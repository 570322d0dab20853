"""Latency and energy of the pruned network side by side with the dense one.

The machine is shared and noisy, so the two are never measured one after the other: short blocks of both alternate in a
seeded random order, and the ratio is formed block pair by block pair.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn

from bench.energy import EnergyMeter, Reading, SourceReading
from bench.energy.reading import Kind
from bench.record import Inference, Latency
from bench.train import autocast_for

CPU_BLOCK_S = 0.25
GPU_BLOCK_S = 5.0  # at least 50 periods of a 100 ms energy counter
MIN_BLOCKS = 5
WARM_UP_CALLS = 3


@dataclass
class _Side:
    """One of the two networks while it is measured."""

    call: Callable[[], object]
    latencies_ms: list[float] = field(default_factory=list)
    block_ms: list[float] = field(default_factory=list)  # median latency of each block
    readings: list[Reading] = field(default_factory=list)


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
) -> Inference:
    """Measure both networks on batches of `images`, in eval mode.

    Args:
        pruned, dense: on the device of `images`.
        images: (N, C, H, W), normalised; repeated when N < batch_size.
        seconds: measured for each of the two networks, warm-up not counted.
        precision: as in training, "auto", "float32" or "bfloat16".
    """
    device = images.device
    repeats = -(-batch_size // len(images))
    batch = images.repeat(repeats, 1, 1, 1)[:batch_size]
    if images.is_contiguous(memory_format=torch.channels_last):
        batch = batch.contiguous(memory_format=torch.channels_last)
    autocast = autocast_for(device, precision)
    synchronise = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    def caller(model: nn.Module) -> Callable[[], object]:
        model.eval()

        def call() -> object:
            with torch.inference_mode(), autocast():
                result = model(batch)
            synchronise()
            return result

        return call

    sides = (_Side(caller(pruned)), _Side(caller(dense)))
    block_s = GPU_BLOCK_S if device.type == "cuda" else CPU_BLOCK_S
    calls = [calls_per_block(side.call, block_s) for side in sides]
    blocks = max(MIN_BLOCKS, round(seconds / block_s))
    order = random.Random(seed)
    for _ in range(blocks):
        for i in order.sample((0, 1), 2):
            _measure_block(sides[i], calls[i], meter)

    ratio, low, high = ratio_interval(sides[0].block_ms, sides[1].block_ms, seed)
    return Inference(
        batch_size=batch_size,
        blocks=blocks,
        images=blocks * calls[0] * batch_size,
        dense_images=blocks * calls[1] * batch_size,
        latency=_summary(sides[0].latencies_ms),
        dense_latency=_summary(sides[1].latencies_ms),
        latency_ratio=ratio,
        latency_ratio_low=low,
        latency_ratio_high=high,
        energy=add_readings("inference", sides[0].readings),
        dense_energy=add_readings("inference, dense", sides[1].readings),
        energy_ratio=energy_ratios(
            sides[0].readings,
            sides[1].readings,
            images_per_block=calls[0] * batch_size,
            dense_images_per_block=calls[1] * batch_size,
            seed=seed,
        ),
    )


def calls_per_block(call: Callable[[], object], block_s: float) -> int:
    """How many calls fill a block; warms up on the way."""
    for _ in range(WARM_UP_CALLS):
        call()
    started_s = time.perf_counter()
    done = 0
    while done < 3 or time.perf_counter() - started_s < block_s / 4:
        call()
        done += 1
    return max(1, round(block_s * done / (time.perf_counter() - started_s)))


def _measure_block(side: _Side, calls: int, meter: EnergyMeter) -> None:
    latencies_ms = []
    with meter.window("inference") as window:
        for _ in range(calls):
            started_s = time.perf_counter()
            side.call()
            latencies_ms.append((time.perf_counter() - started_s) * 1e3)
    side.latencies_ms += latencies_ms
    side.block_ms.append(float(np.median(latencies_ms)))  # a mean would be that of the machine's hiccups
    assert window.reading is not None
    side.readings.append(window.reading)


def _summary(latencies_ms: Sequence[float]) -> Latency:
    p05, median, p95 = np.percentile(latencies_ms, [5, 50, 95])
    return Latency(median_ms=float(median), p05_ms=float(p05), p95_ms=float(p95))


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float], seed: int = 0, resamples: int = 2000
) -> tuple[float, float, float]:
    """Geometric mean of the paired ratios, and its 95 % bootstrap interval over the pairs."""
    logs = np.log(np.asarray(numerators) / np.asarray(denominators))
    draws = np.random.default_rng(seed).choice(logs, size=(resamples, len(logs))).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high))


def energy_ratios(
    readings: Sequence[Reading],
    dense_readings: Sequence[Reading],
    *,
    images_per_block: int,
    dense_images_per_block: int,
    seed: int = 0,
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
        ratios[kind] = ratio_interval(per_image, dense_per_image, seed)
    return ratios


def add_readings(name: str, readings: Sequence[Reading]) -> Reading:
    """Readings of consecutive windows as one. A source that is invalid in one of them is invalid in the sum."""
    sources = []
    for first in readings[0].sources:
        parts = [next((s for s in r.sources if s.name == first.name), None) for r in readings]
        bad = next((s for s in parts if s is None or not s.valid), first)
        if bad is None or not bad.valid:
            reason = "missing in one of the blocks" if bad is None else bad.reason
            sources.append(first.model_copy(update={"energy_j": None, "valid": False, "reason": reason}))
            continue
        valid = [s for s in parts if s is not None]
        total = {key: _sum([getattr(s, key) for s in valid]) for key in ("energy_j", "low_j", "high_j")}
        sources.append(SourceReading.model_validate(first.model_dump() | total))
    warnings = tuple(dict.fromkeys(w for r in readings for w in r.warnings))
    duration_s = sum(r.duration_s for r in readings)
    return Reading(name=name, duration_s=duration_s, sources=tuple(sources), warnings=warnings)


def _sum(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) if len(known) == len(values) else None
