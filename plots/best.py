"""The best of each column, among networks of one budget in one comparison."""

from __future__ import annotations

import pandas as pd

from plots.comparison import REFERENCE
from plots.frame import GROUP_COLUMNS

HIGHER = ("test_accuracy_percent", "difference_to_dense_points")
LOWER = ("train_", "batch_1_", "large_batch_")
"""How columns of a `comparison` begin that are the better the higher or lower. What is kept follows from the budget."""


def best_rows(table: pd.DataFrame, number: str | None) -> set[int]:
    """Positions of the rows of a `comparison` that are best in the column `number`, for each budget.

    Valid pruned networks only, and only where two or more have the figure: a winner needs an opponent. Equals share.
    """
    if number is None or not number.startswith((*HIGHER, *LOWER)) or not len(table):
        return set()
    placed = table.assign(place=range(len(table)))
    rivals = placed[placed["valid"] & (placed["method_name"] != REFERENCE) & placed[number].notna()]
    found: set[int] = set()
    for _, rows in rivals.groupby([*GROUP_COLUMNS, "budget"], sort=False):
        if len(rows) > 1:
            best = rows[number].max() if number.startswith(HIGHER) else rows[number].min()
            found |= set(rows["place"][rows[number] == best])
    return found
