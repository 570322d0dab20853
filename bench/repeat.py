"""Two things measured side by side until their ratio is known well enough.

A shared machine is not equally busy all the time, so the two are never measured one after the other: short blocks of
both alternate in a seeded random order, and the ratio is formed pair by pair.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

MIN_PAIRS = 5
RESAMPLES = 2000

T = TypeVar("T")
Interval = tuple[float, float, float]
"""A figure, and the low and high end of its 95 % interval."""


@dataclass(frozen=True)
class Repeated(Generic[T]):
    """What `repeat_until` measured. Block i of one side belongs to block i of the other."""

    a: tuple[T, ...]
    b: tuple[T, ...]
    ratio: float  # a / b, geometric mean over the pairs
    low: float  # 95 % bootstrap interval of the ratio
    high: float
    reached: bool  # whether the interval became as narrow as asked for

    @property
    def pairs(self) -> int:
        return len(self.a)

    @property
    def half_width(self) -> float:
        """How far the interval reaches from the ratio, as a fraction of it."""
        return half_width((self.ratio, self.low, self.high))


def half_width(interval: Interval) -> float:
    """Distance from the figure to the further end of its interval, as a fraction of the figure."""
    ratio, low, high = interval
    return max(high / ratio - 1, 1 - low / ratio)


def repeat_until(
    measure_a: Callable[[], T],
    measure_b: Callable[[], T],
    value: Callable[[T], float],
    *,
    ci: float = 0.02,
    min_pairs: int = MIN_PAIRS,
    max_pairs: int = 1000,
    limit_s: float = float("inf"),
    seed: int = 0,
) -> Repeated[T]:
    """Measure blocks of `a` and `b` until the 95 % interval of value(a) / value(b) is within `ci` of the ratio.

    Whether the interval is narrow enough is first asked after `min_pairs`, then each time when a quarter more has been
    measured, not after each pair: an interval that is looked at often enough is narrow by chance once.

    Args:
        measure_a, measure_b: measure one block. Whatever they raise passes through.
        value: what is compared, above zero: seconds, joules.
        ci: largest `half_width` of the interval, as a fraction of the ratio.
        min_pairs: measured in any case.
        max_pairs, limit_s: measured at most; the time is looked at between pairs, after `min_pairs`.
        seed: of the order within the pairs, and of the bootstrap.

    Raises:
        ValueError: `min_pairs` is below 2 or above `max_pairs`, or a value is not above zero.
    """
    if not 2 <= min_pairs <= max_pairs:
        raise ValueError(f"min_pairs = {min_pairs} must lie between 2 and max_pairs = {max_pairs}")
    order = random.Random(seed)
    started_s = time.perf_counter()
    sides: tuple[list[T], list[T]] = ([], [])
    ask_at = min_pairs
    while True:
        for i in order.sample((0, 1), 2):
            sides[i].append((measure_a, measure_b)[i]())
        pairs = len(sides[0])
        over = pairs >= max_pairs or (pairs >= min_pairs and time.perf_counter() - started_s >= limit_s)
        if pairs < ask_at and not over:
            continue
        interval = ratio_interval([value(block) for block in sides[0]], [value(block) for block in sides[1]], seed)
        reached = half_width(interval) <= ci
        if reached or over:
            return Repeated(tuple(sides[0]), tuple(sides[1]), *interval, reached=reached)
        ask_at = max(pairs + 1, round(1.25 * pairs))


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float], seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Geometric mean of the paired ratios, and its 95 % bootstrap interval over the pairs.

    Raises:
        ValueError: a value is not above zero.
    """
    if min(*numerators, *denominators) <= 0:
        raise ValueError("a ratio needs values above zero")
    logs = np.log(np.asarray(numerators) / np.asarray(denominators))
    draws = np.random.default_rng(seed).choice(logs, size=(resamples, len(logs))).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high))
