"""When a search does what, in optimizer steps: gates held open, budget tightening, settling, and how often it looks around."""

from __future__ import annotations

import math
from dataclasses import dataclass

from greenprune.methods.base import step_of
from greenprune.methods.gating.options import GatingOptions

HISTORY_ROWS = 24
"""How many times the consensus of all gates is noted over the search."""


@dataclass(frozen=True)
class SearchSchedule:
    """The schedule of one search.

    Attributes:
        options: its shares.
        training_steps: optimizer steps of the whole training.
    """

    options: GatingOptions
    training_steps: int

    @property
    def search_steps(self) -> int:
        return max(1, step_of(self.options.search_share, self.training_steps))

    @property
    def release_step(self) -> int:
        """The first step after which the gates decide."""
        return math.ceil(self.options.open_share * self.search_steps)

    @property
    def listening_step(self) -> int:
        """From here to the release gradients say what units are worth: over fewer steps is too uncertain to order layers by."""
        return self.release_step // 2

    @property
    def history_every(self) -> int:
        return max(1, self.search_steps // HISTORY_ROWS)

    @property
    def shrink_every(self) -> int:
        return max(5, round(self.options.shrink_every_share * self.search_steps))

    @property
    def patience(self) -> int:
        """Steps for which a gate must have agreed before its unit is decided."""
        return max(10, round(self.options.patience_share * self.search_steps))

    @property
    def consensus_memory(self) -> float:
        """What is left of a consensus after one step."""
        return 1.0 - 1.0 / max(5.0, self.options.consensus_share * self.search_steps)

    def holds_open(self, done: int) -> bool:
        """Whether all gates are held open once `done` steps were taken."""
        return done < self.release_step

    def progress(self, done: int) -> float:
        """0 when the gates are released, 1 when the full budget is reached, more while they settle."""
        begin = self.options.open_share * self.search_steps
        end = max(begin + 1.0, (1.0 - self.options.settle_share) * self.search_steps)
        return (done - begin) / (end - begin)
