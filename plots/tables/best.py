"""The best of each column, among networks of one budget in one comparison."""

from __future__ import annotations

import pandas as pd
from greenprune.plots.frame.comparison import REFERENCE
from greenprune.plots.frame.frame import GROUP_COLUMNS

HIGHER = ("test_accuracy_percent", "difference_to_dense_points")
LOWER = ("train_", "batch_1_", "large_batch_")
"""How columns of a `comparison` begin that are the better the higher or lower. What is kept follows from the budget."""

NOT_COMPARABLE = "_j_per_1000_images_mean"
"""Absolute joules of inference: those of different runs were measured at different times."""

SAME = 0.005
"""Accuracies and ratios that are shown with two decimals and look alike are equally good."""


def best_rows(table: pd.DataFrame, number: str | None) -> set[int]:
    """Positions of the rows of a `comparison` that are best in the column `number`, for each budget.

    Valid pruned networks only, and only where one of them is worse: a winner needs an opponent. Equals share. Half of
    the connections is another budget than half of the MACs.
    """
    known = number is not None and number.startswith((*HIGHER, *LOWER)) and not number.endswith(NOT_COMPARABLE)
    if number is None or not known or not len(table):
        return set()
    same = 0.0 if number.endswith("_j_mean") else SAME
    placed = table.assign(place=range(len(table)))
    rivals = placed[placed["valid"] & (placed["method_name"] != REFERENCE) & placed[number].notna()]
    found: set[int] = set()
    for _, rows in rivals.groupby([*GROUP_COLUMNS, "budget", "budget_cost"], sort=False):
        best = rows[number].max() if number.startswith(HIGHER) else rows[number].min()
        alike = (rows[number] - best).abs() <= same
        if not alike.all():
            found |= set(rows["place"][alike])
    return found
