"""Things measured side by side until their ratios are known well enough.

A shared machine is not equally busy all the time, so they are never measured one after the other: short blocks of all of
them alternate in a seeded random order, and ratios are formed round by round.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from scipy.special import stdtrit

MIN_PAIRS = 5

T = TypeVar("T")
Interval = tuple[float, float, float]
"""A figure, and the low and high end of its 95 % interval."""


@dataclass(frozen=True)
class Repeated(Generic[T]):
    """What `repeat_until` measured. Block i of one side belongs to block i of the other."""

    a: tuple[T, ...]
    b: tuple[T, ...]
    ratio: float  # a / b, geometric mean over the pairs
    low: float  # 95 % interval of the ratio
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


@dataclass(frozen=True)
class Rounds(Generic[T]):
    """What `repeat_rounds` measured. Block i of every side belongs to round i."""

    sides: tuple[tuple[T, ...], ...]  # in the order of `measures`; the last one is the reference
    ratios: tuple[Interval, ...]  # of each other side to the reference
    reached: bool  # whether all intervals became as narrow as asked for

    @property
    def rounds(self) -> int:
        return len(self.sides[0])


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

    Args:
        measure_a: measures one block. Whatever it raises passes through.
        measure_b: the same of the other.
        value: what of a block is compared, above zero.
        ci: how far the ends of the interval may be from the ratio, as a share of it.
        min_pairs: pairs of blocks that are measured at least.
        max_pairs: pairs after which it ends in any case.
        limit_s: no pair begins after so many seconds.
        seed: of the order.

    Raises:
        ValueError: `min_pairs` is below 2 or above `max_pairs`, or a value is not above zero.
    """
    if not 2 <= min_pairs <= max_pairs:
        raise ValueError(f"min_pairs = {min_pairs} must lie between 2 and max_pairs = {max_pairs}")
    found = repeat_rounds(
        (measure_a, measure_b), value, ci=ci, min_rounds=min_pairs, max_rounds=max_pairs, limit_s=limit_s, seed=seed
    )
    (a, b), ((ratio, low, high),) = found.sides, found.ratios
    return Repeated(a, b, ratio, low, high, found.reached)


def repeat_rounds(
    measures: Sequence[Callable[[], T]],
    value: Callable[[T], float],
    *,
    ci: float = 0.02,
    min_rounds: int = MIN_PAIRS,
    max_rounds: int = 1000,
    limit_s: float = float("inf"),
    seed: int = 0,
) -> Rounds[T]:
    """Measure one block of everything in each round, until the ratios to the last of `measures` are all known well enough.

    Whether the intervals are narrow enough is first asked after `min_rounds`, then each time when a quarter more has been
    measured, not after each round: an interval that is looked at often enough is narrow by chance once.

    Args:
        measures: each measures one block; the last one is the reference. Whatever they raise passes through.
        value: what is compared, above zero: seconds, joules.
        ci: largest `half_width` of the intervals, as a fraction of the ratio.
        min_rounds: measured in any case.
        max_rounds, limit_s: measured at most; the time is looked at between rounds, after `min_rounds`.
        seed: of the order within the rounds.

    Raises:
        ValueError: fewer than two of `measures`, `min_rounds` below 2 or above `max_rounds`, or a value not above zero.
    """
    if len(measures) < 2:
        raise ValueError("a ratio needs two things that are measured")
    if not 2 <= min_rounds <= max_rounds:
        raise ValueError(f"min_rounds = {min_rounds} must lie between 2 and max_rounds = {max_rounds}")
    order = random.Random(seed)
    started_s = time.perf_counter()
    sides: tuple[list[T], ...] = tuple([] for _ in measures)
    ask_at = min_rounds
    while True:
        for i in order.sample(range(len(measures)), len(measures)):
            sides[i].append(measures[i]())
        rounds = len(sides[0])
        over = rounds >= max_rounds or (rounds >= min_rounds and time.perf_counter() - started_s >= limit_s)
        if rounds < ask_at and not over:
            continue
        values = [[value(block) for block in side] for side in sides]
        ratios = tuple(ratio_interval(side, values[-1]) for side in values[:-1])
        reached = all(half_width(interval) <= ci for interval in ratios)
        if reached or over:
            return Rounds(tuple(tuple(side) for side in sides), ratios, reached)
        ask_at = max(rounds + 1, round(1.25 * rounds))


def ratio_interval(numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
    """Geometric mean of the paired ratios, and its 95 % interval: Student's t of the mean of their logarithms.

    Raises:
        ValueError: a value is not above zero, or there is a single pair.
    """
    if min(*numerators, *denominators) <= 0:
        raise ValueError("a ratio needs values above zero")
    logs = np.log(np.asarray(numerators) / np.asarray(denominators))
    if len(logs) < 2:
        raise ValueError("an interval needs two pairs")
    mean, half = logs.mean(), stdtrit(len(logs) - 1, 0.975) * logs.std(ddof=1) / len(logs) ** 0.5
    return float(np.exp(mean)), float(np.exp(mean - half)), float(np.exp(mean + half))
