"""The mathematics of the regression gate: ratios to a reference, and how they changed since another session.

A machine is slower on some days than on others, and while others use it. So what is compared between sessions is never
seconds or joules, but seconds or joules of the subject over those of a fixed reference that ran right beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000


@dataclass(frozen=True)
class Change:
    """New over old, as a factor, and the ends of its 95 % interval."""

    factor: float
    low: float
    high: float

    def regressed(self, tolerance: float) -> bool:
        """Whether even the low end lies above 1 + `tolerance` (a fraction): noise widens the interval, it raises no alarm."""
        return self.low > 1 + tolerance

    def unclear(self, tolerance: float) -> bool:
        """Whether 1 + `tolerance` lies inside the interval: more measurements could still say either."""
        return self.low <= 1 + tolerance < self.high

    def __str__(self) -> str:
        return f"{self.factor:.2f} [{self.low:.2f}, {self.high:.2f}]"


def paired_ratios(subject: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Each block of the subject over the geometric mean of the reference before and after it.

    Args:
        subject: (N,) figures, above zero.
        reference: (N + 1,) figures of the blocks around them, so that a steady drift of the machine cancels.

    Raises:
        ValueError: the lengths do not fit, or a figure is not above zero.
    """
    if len(subject) < 1 or len(reference) != len(subject) + 1:
        raise ValueError(f"{len(subject)} blocks of the subject need one more of the reference, not {len(reference)}")
    if not min(*subject, *reference) > 0:
        raise ValueError("a ratio needs figures above zero")
    around = np.asarray(reference, dtype=float)
    return (np.asarray(subject, dtype=float) / np.sqrt(around[:-1] * around[1:])).tolist()


def typical(ratios: Sequence[float]) -> float:
    """The geometric mean of the middle half: what a disturbed block was off by does not count."""
    return float(np.exp(_middle(np.log(np.asarray(ratios, dtype=float)))))


def change(new: Sequence[float], old: Sequence[float], seed: int = 0) -> Change:
    """`typical(new) / typical(old)` with a bootstrap interval; both sides are resampled, each from its own session.

    Args:
        new, old: ratios to the reference, above zero; they may differ in number.
        seed: of the resampling.
    """
    random = np.random.default_rng(seed)
    drawn = []
    for ratios in (new, old):
        logs = np.log(np.asarray(ratios, dtype=float))
        drawn.append(_middle(random.choice(logs, size=(RESAMPLES, len(logs)))))
    low, high = np.exp(np.percentile(drawn[0] - drawn[1], [2.5, 97.5]))
    return Change(typical(new) / typical(old), float(low), float(high))


def _middle(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis without its lowest and highest quarter; (..., N) to (...)."""
    count = values.shape[-1]
    cut = count // 4
    return np.sort(values, axis=-1)[..., cut : count - cut].mean(axis=-1)
