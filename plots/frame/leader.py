"""Which method of a budget is ahead, and of which it is ahead by least.

Methods may have been run with other seeds. Means over unlike seeds differ by the seeds too, so two methods are compared over
the seeds that both have; only where they share none their means are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from greenprune.plots.frame.frame import Results
from greenprune.plots.frame.interval import mean_with_interval

SCORE = "test_score"


@dataclass(frozen=True)
class Lead:
    """One method's score less another's, over the seeds that both have: mean, 95 % interval (Student's t), how many."""

    mean: float
    low: float
    high: float
    pairs: int


@dataclass(frozen=True)
class Leader:
    """Attributes: best; next, the row it is ahead of by least, None where it is alone; lead over that one, in the unit of the
    score and its sign; whether best has the best mean of all too."""

    best: dict[str, Any]
    next: dict[str, Any] | None
    lead: Lead | None
    by_mean: bool


def leader(part: Results, rows: Sequence[dict[str, Any]], higher: bool) -> Leader:
    """Of rows of a `comparison` of one budget, each with a score. `higher`: whether a higher score is better."""
    sign = 1.0 if higher else -1.0
    order = sorted(rows, key=lambda row: -sign * row[f"{SCORE}_mean"])

    def ahead(one: dict[str, Any], other: dict[str, Any]) -> float:
        found = lead_over(part, one, other)
        return sign * (found.mean if found.pairs else one[f"{SCORE}_mean"] - other[f"{SCORE}_mean"])

    best = order[0]
    for row in order[1:]:
        if ahead(row, best) > 0:
            best = row
    others = [row for row in order if row is not best]
    if any(
        ahead(row, best) > 0 for row in others
    ):  # each is ahead of one and behind another: nothing but means is left
        best, *others = order
    if not others:
        return Leader(best, None, None, True)
    following = min(others, key=lambda row: ahead(best, row))
    return Leader(best, following, lead_over(part, best, following), best is order[0])


def lead_over(part: Results, one: dict[str, Any], other: dict[str, Any]) -> Lead:
    """The score of `one` less that of `other`, of valid runs at their budgets."""
    runs = part.runs[part.runs["valid"]]
    ours, theirs = (
        runs[(runs["method"] == row["method"]) & (runs["budget"] == row["budget"])].set_index("seed")[SCORE]
        for row in (one, other)
    )
    difference: np.ndarray = (ours - theirs).dropna().to_numpy()
    return Lead(*mean_with_interval(difference), len(difference))
