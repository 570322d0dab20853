"""Learning rates over a training run, as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from greenprune.methods.base import Phase, step_of

Shape = Literal["linear", "cosine", "step", "one-cycle"]

RISE, FIRST, LAST = 0.3, 1 / 25, 1 / 250_000
"""Of a one-cycle schedule: the share of its steps that the rate rises, and where it begins and ends as fractions of its peak.
Smith & Topin 2019 ("Super-Convergence", arXiv 1708.07120), with the defaults of torch's OneCycleLR."""


@dataclass(frozen=True)
class Cycle:
    """One learning-rate cycle: linear warm-up from 0 to `peak`, then decay. Steps count from 0.

    "linear" and "cosine" end at 0; "step" falls by a factor at some fractions of the cycle; "one-cycle" has a rise of its
    own in place of the warm-up.
    """

    start: int
    end: int
    warmup: int
    peak: float

    def rate(self, step: int, shape: Shape, step_at: Sequence[float] = (), step_factor: float = 1.0) -> float:
        done, length = step - self.start, self.end - self.start
        if shape == "one-cycle":
            return self.peak * _one_cycle(done, length)
        if done < self.warmup:
            return self.peak * (done + 1) / self.warmup
        if shape == "step":
            return self.peak * step_factor ** sum(done >= step_of(at, length) for at in step_at)
        t = (done - self.warmup) / max(1, self.end - self.start - self.warmup)
        return self.peak * (1.0 - t if shape == "linear" else 0.5 * (1.0 + math.cos(math.pi * t)))


def _one_cycle(done: int, length: int) -> float:
    """The rate as a fraction of its peak: half a cosine up, half a cosine down."""
    top, last = RISE * length - 1, length - 1
    if done <= top:
        return _between(FIRST, 1.0, done / top if top > 0 else 1.0)
    return _between(1.0, LAST, (done - top) / (last - top))


def _between(start: float, end: float, t: float) -> float:
    """Half a cosine from `start` at t = 0 to `end` at t = 1."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * t))


def phase_ends(phases: Sequence[Phase], steps: int) -> list[int]:
    """The step at which each phase is over; the last one ends with the training."""
    shares = [sum(p.share for p in phases[: i + 1]) for i in range(len(phases))]
    return [*(step_of(s, steps) for s in shares[:-1]), steps]


def phase_at(phases: Sequence[Phase], steps: int, step: int) -> Phase:
    """The phase that `step` (from 0) belongs to."""
    return next(p for p, end in zip(phases, phase_ends(phases, steps), strict=True) if step < end)


def cycles(phases: Sequence[Phase], steps: int, learning_rate: float, warmup_steps: int) -> list[Cycle]:
    """The cycles of a method's phases. A phase without a peak prolongs the cycle before it.

    The recipe's warm-up opens the first cycle; later ones, which start from trained weights, get none.
    """
    result: list[Cycle] = []
    start = 0
    for phase, end in zip(phases, phase_ends(phases, steps), strict=True):
        if phase.peak is not None:
            warmup = min(warmup_steps, max(1, end - start)) if not result else 0
            result.append(Cycle(start, end, warmup, learning_rate * phase.peak))
        else:
            last = result[-1]
            result[-1] = Cycle(last.start, end, last.warmup, last.peak)
        start = end
    return result


def rate_at(
    cycles: Sequence[Cycle], step: int, shape: Shape, step_at: Sequence[float] = (), step_factor: float = 1.0
) -> float:
    """Learning rate of `step`, counted from 0."""
    return next(c for c in cycles if step < c.end).rate(step, shape, step_at, step_factor)
