"""The best of each column, among networks of one budget in one comparison."""

from __future__ import annotations

import pandas as pd
from greenprune.bench.records.score import in_percent
from greenprune.plots.frame.comparison import REFERENCE
from greenprune.plots.frame.frame import GROUP_COLUMNS

SCORES = ("test_score_", "difference_to_dense_")
LOWER = ("train_", "batch_1_", "large_batch_")
"""How columns of a `comparison` begin that are the better the lower. What is kept follows from the budget."""

NOT_COMPARABLE = "_j_per_1000_images_mean"
"""Absolute joules of inference: those of different runs were measured at different times."""

SAME = 0.005
"""Shares and ratios that are shown with two decimals and look alike are equally good,"""

SAME_SHARE = 5e-4
"""and so are other scores that differ by less than this of the best test score, since four digits of them are shown."""


def best_rows(table: pd.DataFrame, number: str | None) -> set[int]:
    """Positions of the rows of a `comparison` that are best in the column `number`, for each budget.

    Valid pruned networks only, and only where one of them is worse: a winner needs an opponent. Equals share. Half of
    the connections is another budget than half of the MACs.
    """
    known = number is not None and number.startswith((*SCORES, *LOWER)) and not number.endswith(NOT_COMPARABLE)
    if number is None or not known or not len(table):
        return set()
    placed = table.assign(place=range(len(table)))
    rivals = placed[placed["valid"] & (placed["method_name"] != REFERENCE) & placed[number].notna()]
    found: set[int] = set()
    for _, rows in rivals.groupby([*GROUP_COLUMNS, "budget", "budget_cost"], sort=False):
        higher = number.startswith(SCORES) and bool(rows["higher_is_better"].iloc[0])
        best = rows[number].max() if higher else rows[number].min()
        same = 0.0 if number.endswith("_j_mean") else SAME
        if number.startswith(SCORES) and not in_percent(str(rows["score"].iloc[0])):
            same = SAME_SHARE * float(rows["test_score_mean"].abs().max())
        alike = (rows[number] - best).abs() <= same
        if not alike.all():
            found |= set(rows["place"][alike])
    return found
