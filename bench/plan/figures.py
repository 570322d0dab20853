"""A figure with its bounds."""

from __future__ import annotations

from dataclasses import dataclass

from greenprune.bench.text import bounded, three_digits


@dataclass(frozen=True)
class Bounded:
    """A figure, and the least and the most it may be if the assumptions hold."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Bounded:
        return Bounded(self.value * factor, self.low * factor, self.high * factor)

    def by(self, other: Bounded) -> Bounded:
        """The product, of figures that are not negative."""
        return Bounded(self.value * other.value, self.low * other.low, self.high * other.high)

    def plus(self, other: Bounded) -> Bounded:
        return Bounded(self.value + other.value, self.low + other.low, self.high + other.high)

    def text(self) -> str:
        return bounded(self.value, self.low, self.high, three_digits)
