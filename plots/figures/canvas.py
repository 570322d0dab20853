"""What every figure needs: an empty figure, and how it and its rows are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from greenprune.bench.text import plural
from greenprune.plots.frame.comparison import REFERENCE, comparison
from greenprune.plots.frame.frame import Results
from greenprune.plots.frame.views import name_of
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def new_figure(width_in: float, height_in: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure independent of pyplot and its global state, and its panels row by row."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def comparison_of_one(results: Results) -> pd.DataFrame:
    """The `comparison` of results that hold only one; anything else is an error of the caller."""
    if len(results.comparisons()) != 1:
        raise ValueError("a figure shows one comparison; draw each of results.comparisons() by itself")
    return comparison(results)


def title(results: Results, table: pd.DataFrame, statistic: str) -> str:
    """The suite, and how many runs are behind a point."""
    counts = sorted(set(table["runs"]))
    seeds = plural(counts[0], "seed") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    return f"{name_of(results.runs.iloc[0])}: " + ("one seed" if counts == [1] else f"{statistic} {seeds}")


MOST_BESIDE = 12
"""Names of a legend beside the panels; more of them stand below, in columns."""

LEGEND_LINE_IN = 0.27


def one_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend for all panels, each name once; where there are many, the figure grows for it."""
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if len(entries) > MOST_BESIDE:
        width_in, height_in = figure.get_size_inches()
        columns = max(1, int(width_in // 2.6))
        figure.set_size_inches(width_in, height_in + LEGEND_LINE_IN * -(-len(entries) // columns))
        figure.legend(list(entries.values()), list(entries), loc="outside lower left", ncols=columns)
    elif entries:
        figure.legend(list(entries.values()), list(entries), loc="outside right center")


def row_label(row: dict[str, Any]) -> str:
    """`gated 50 %`, for a row of a `comparison` or of `Results.runs`."""
    budget = "" if row["method_name"] == REFERENCE else f" {row['budget'] * 100:g} %"
    return f"{row['method']}{budget}{'' if row['valid'] else ' (invalid)'}"
