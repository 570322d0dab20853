"""What is known of a card at a moment and over a stretch of time, beside its counter."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from greenprune.bench.energy.counting.history import Cut
from greenprune.bench.energy.counting.ticks import TickNotes
from greenprune.bench.energy.nvml.state import Look
from greenprune.bench.energy.source import Mark


@dataclass
class Notes:
    """What the sampler saw in a stretch of time."""

    peak_w: float = 0.0
    look: Look | None = None
    ticks: TickNotes = field(default_factory=TickNotes)

    def merge(self, other: Notes) -> Notes:
        """Of both stretches."""
        look = self.look.merge(other.look) if self.look and other.look else self.look or other.look
        return Notes(max(self.peak_w, other.peak_w), look, self.ticks.merge(other.ticks))


@dataclass(frozen=True)
class NvmlMark(Mark):
    """A mark with what else ran on until then."""

    cut: Cut | None = None
    sampled_j: float = 0.0  # the power register, integrated
    module_j: float | None = None  # that of the module
    uncovered_s: float = 0.0  # seconds without power samples
    held_w: float = 0.0  # the highest power shortly before
    known_s: float = math.inf  # how old the total is at most, whatever the counter's period


@dataclass(frozen=True)
class Stretch:
    """What was noted between two marks, or in several stretches."""

    sampled_j: float
    module_j: float | None
    uncovered_s: float
    peak_w: float
    look: Look | None
    late_over_s: float = 0.0  # beyond the marks' own: how much older a counter that had become slow was at the start
    late_under_s: float = 0.0  # and at the end
    still_s: float = 0.0  # the longest time for which the counter stood still beyond its period
    interval_s: float = 0.0  # its updates' longest distance, where that was beyond its period

    def __add__(self, other: Stretch) -> Stretch:
        module_j = None if self.module_j is None or other.module_j is None else self.module_j + other.module_j
        return Stretch(
            self.sampled_j + other.sampled_j,
            module_j,
            self.uncovered_s + other.uncovered_s,
            max(self.peak_w, other.peak_w),
            self.look.merge(other.look) if self.look and other.look else self.look or other.look,
            self.late_over_s + other.late_over_s,
            self.late_under_s + other.late_under_s,
            max(self.still_s, other.still_s),
            max(self.interval_s, other.interval_s),
        )
