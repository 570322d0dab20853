"""Learning rates over a training run, as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from greenprune.methods.base import Phase, step_of


@dataclass(frozen=True)
class Cycle:
    """One learning-rate cycle: linear warm-up from 0 to `peak`, then decay to 0 at `end`. Steps count from 0."""

    start: int
    end: int
    warmup: int
    peak: float

    def rate(self, step: int, shape: Literal["linear", "cosine"]) -> float:
        done = step - self.start
        if done < self.warmup:
            return self.peak * (done + 1) / self.warmup
        t = (done - self.warmup) / max(1, self.end - self.start - self.warmup)
        return self.peak * (1.0 - t if shape == "linear" else 0.5 * (1.0 + math.cos(math.pi * t)))


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


def rate_at(cycles: Sequence[Cycle], step: int, shape: Literal["linear", "cosine"]) -> float:
    """Learning rate of `step`, counted from 0."""
    return next(c for c in cycles if step < c.end).rate(step, shape)
