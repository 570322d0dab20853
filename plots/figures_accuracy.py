"""Accuracy against what a network costs."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plots.canvas import comparison_of_one, new_figure, row_label, title
from plots.comparison import REFERENCE, comparison, rows_of
from plots.frame import Results
from plots.style import RC, looks

INVALID_MARKER = "x"


@mpl.rc_context(RC)
def accuracy_against_macs(results: Results) -> Figure:
    """Test accuracy in % against kept MACs in % of dense: a small point per run, mean ± sd over seeds per budget."""
    table, look = comparison_of_one(results), looks(results.runs)
    figure, (axes,) = new_figure(9.0, 5.0)
    valid = table[table["valid"]]
    for row in rows_of(valid[valid["method_name"] == REFERENCE]):
        mean, sd = row["test_accuracy_percent_mean"], row["test_accuracy_percent_sd"]
        color = look[row["method"]].color
        axes.axhline(mean, color=color, linewidth=1.2, linestyle="--")
        axes.axhspan(mean - sd, mean + sd, color=color, alpha=0.1, linewidth=0)
    best_first = valid.groupby("method")["test_accuracy_percent_mean"].mean().sort_values(ascending=False).index
    for method in best_first:
        rows = valid[valid["method"] == method].sort_values("kept_macs_percent_mean")
        runs = results.runs[(results.runs["method"] == method) & results.runs["valid"]]
        style: dict[str, Any] = {"color": look[method].color, "marker": look[method].marker}
        x, y = rows["kept_macs_percent_mean"], rows["test_accuracy_percent_mean"]
        sd_x, sd_y = rows["kept_macs_percent_sd"], rows["test_accuracy_percent_sd"]
        axes.plot(runs["kept_macs"] * 100, runs["test_accuracy"] * 100, **style, linestyle="", markersize=4, alpha=0.4)
        axes.errorbar(x, y, xerr=sd_x, yerr=sd_y, color=style["color"], linestyle="", elinewidth=1.5, capsize=2.5)
        line = "--" if (rows["method_name"] == REFERENCE).all() else "-" if len(rows) > 1 else ""  # as it is drawn
        axes.plot(x, y, **style, markersize=9, markeredgecolor="white", linestyle=line, linewidth=1.5, label=method)
    invalid = results.runs[~results.runs["valid"]]
    if len(invalid):
        colors = [look[method].color for method in invalid["method"]]
        where = (invalid["kept_macs"] * 100, invalid["test_accuracy"] * 100)
        axes.scatter(*where, c=colors, marker=INVALID_MARKER, s=70, label="invalid run")
    _widen(axes, results)
    axes.set_title(title(results, table, "mean ± standard deviation of"))
    axes.set_xlabel("MACs kept, % of dense")
    axes.set_ylabel("Test accuracy, %")
    figure.legend(loc="outside right upper")
    return figure


def _widen(axes: Axes, results: Results) -> None:
    """From just below the smallest network to the dense one; at least two points high: noise shall not fill the axes."""
    smallest = results.runs["kept_macs"].min() * 100
    axes.set_xlim(min(95.0, max(0.0, smallest - 0.12 * (100 - smallest))), 100 + max(0.5, 0.06 * (100 - smallest)))
    low, high = axes.get_ylim()
    missing = max(0.0, 2.0 - (high - low))
    axes.set_ylim(low - missing / 2, high + missing / 2)


def accuracy_in_words(results: Results) -> str:
    points = []
    for row in rows_of(comparison(results)):
        accuracy, kept = row["test_accuracy_percent_mean"], row["kept_macs_percent_mean"]
        points.append(f"{row_label(row)}: {accuracy:.2f} % at {kept:.1f} % of the MACs")
    return f"Test accuracy against kept MACs. {'; '.join(points)}."
