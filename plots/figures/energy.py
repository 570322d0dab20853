"""Energy of training, and of inference relative to the dense network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from greenprune.bench.energy.reading import KINDS, Kind
from greenprune.bench.text import three_digits
from greenprune.plots.figures.canvas import comparison_of_one, new_figure, row_label, title
from greenprune.plots.figures.style import RC, looks
from greenprune.plots.frame.comparison import REFERENCE, batch_label, comparison, rows_of, rows_that_fit
from greenprune.plots.frame.frame import Results
from greenprune.plots.tables.columns import ratio_text
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

INVALID_HATCH = "////"
METHOD_GAP = 0.35  # between the bars of two methods, in bars
BAR_HEIGHT = 0.76

DOT: dict[str, Any] = {"s": 16, "color": "white", "edgecolor": "black", "linewidth": 0.8, "zorder": 4}
BOUNDS: dict[str, Any] = {"linestyle": "", "color": "#222222", "elinewidth": 1.5}
DENSE_LINE: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1}


@mpl.rc_context(RC)
def energy_per_method(results: Results) -> Figure:
    """Energy of training in kJ, and of inference relative to dense; a row of panels for each kind of energy.

    Of inference only the ratio is drawn: it was measured side by side, within one process. The joules of different
    runs come from different times on a machine that is not always equally busy.
    """
    table = rows_that_fit(comparison_of_one(results))
    kinds = kinds_present(table)
    if not kinds:
        figure, (axes,) = new_figure(9.0, 1.5)
        axes.set_axis_off()
        axes.text(0, 0.5, "These records hold no energy figures.")
        return figure
    figure, panels = new_figure(10.5, 1.0 + len(kinds) * (1.0 + 0.3 * len(table)), rows=len(kinds), columns=2)
    for row, kind in enumerate(kinds):
        _training(panels[2 * row], table, results, kind)
        _inference(panels[2 * row + 1], table, results, kind)
    figure.suptitle(title(results, table, "mean of"), x=0.01, ha="left", fontsize=RC["axes.titlesize"])
    return figure


def _training(axes: Axes, table: pd.DataFrame, results: Results, kind: Kind) -> None:
    """Kilojoules: a bar per row with its bounds, a dot for each of several runs, a line at the dense network's."""
    name = f"train_energy_{kind}_j"
    mean, low, high = (table[f"{name}_{end}"] / 1000 for end in ("mean", "low", "high"))
    positions = _bars(axes, table, mean, results)
    for position, row, value in zip(positions, rows_of(table), mean, strict=True):
        if row["runs"] > 1:
            behind = _runs_of(row, results.runs)
            axes.scatter(behind[name] / 1000, [position] * len(behind), **DOT)
        if row["method_name"] == REFERENCE and row["valid"]:
            axes.axvline(value, **DENSE_LINE)
    _error_bars(axes, mean, positions, low, high)
    axes.set_xlim(left=0)  # last: it freezes the right end too
    axes.set_xlabel(f"Training energy, kJ\n({kind})")


def _inference(axes: Axes, table: pd.DataFrame, results: Results, kind: Kind) -> None:
    """Times dense: a bar per row, each run below the last with its own 95 % interval, a line at 1."""
    name = f"energy_ratio_{kind}"
    means = table[f"large_batch_{name}_mean"]
    positions = _bars(axes, table, means, results)
    large = results.inference[results.inference["batch_size"] == table["large_batch_size"].iloc[0]]
    for position, row in zip(positions, rows_of(table), strict=True):
        behind = _runs_of(row, large).sort_values("seed")
        heights = position + (np.arange(len(behind)) - (len(behind) - 1) / 2) * BAR_HEIGHT / max(3, len(behind) + 1)
        _error_bars(axes, behind[name], heights, behind[f"{name}_low"], behind[f"{name}_high"])
        if row["runs"] > 1:
            axes.scatter(behind[name], heights, **DOT)
    if means.notna().any():
        axes.axvline(1.0, **DENSE_LINE)
    axes.set_xlim(left=0)  # last: it freezes the right end too
    axes.tick_params(labelleft=False)
    axes.set_xlabel(f"Inference energy, × dense\n({kind}, side by side, {batch_label('large_batch', table)})")


def _bars(axes: Axes, table: pd.DataFrame, values: pd.Series[float], results: Results) -> list[float]:
    """A horizontal bar for each row of the table, with its label; returns their positions."""
    look = looks(results.runs)
    new_method = table["method"] != table["method"].shift()
    positions = [float(i + METHOD_GAP * groups) for i, groups in enumerate(new_method.cumsum())]
    for position, row, value in zip(positions, rows_of(table), values, strict=True):
        color = look[row["method"]].color
        fill: dict[str, Any] = {"color": color}
        if not row["valid"]:
            fill = {"facecolor": "white", "edgecolor": color, "hatch": INVALID_HATCH}
        axes.barh(position, value, height=BAR_HEIGHT, **fill)
    if values.isna().all():
        axes.text(0.5, 0.5, "no such figures", transform=axes.transAxes, ha="center")
    axes.set_yticks(positions, [row_label(row) for row in rows_of(table)])
    axes.set_ylim(positions[-1] + 0.7, positions[0] - 0.7)  # the first row at the top
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    return positions


def _runs_of(row: dict[str, Any], runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that a row of the table stands for."""
    return runs[(runs[["method", "budget", "valid"]] == [row["method"], row["budget"], row["valid"]]).all(axis=1)]


def _error_bars(
    axes: Axes,
    values: pd.Series[float],
    positions: Sequence[float] | np.ndarray,
    low: pd.Series[float],
    high: pd.Series[float],
) -> None:
    """From low to high; nothing where the bounds are unknown."""
    bounds = ((values - low).clip(lower=0), (high - values).clip(lower=0))  # a bound may miss its figure by rounding
    *_, lines = axes.errorbar(values, positions, xerr=bounds, **BOUNDS)
    for line in lines:
        line.set_path_effects([withStroke(linewidth=3.5, foreground="white")])  # visible on the dark bars too


def energy_in_words(results: Results) -> str:
    table = rows_that_fit(comparison(results))
    sentences = []
    for kind in kinds_present(table):
        trained = table[table[f"train_energy_{kind}_j_mean"].notna()]
        bars = [
            f"{row_label(row)}: {three_digits(row[f'train_energy_{kind}_j_mean'] / 1000)}" for row in rows_of(trained)
        ]
        sentences.append(f"Training energy in kJ, {kind}. {'; '.join(bars) or 'No figures'}.")
        name = f"large_batch_energy_ratio_{kind}"
        measured = table[table[f"{name}_mean"].notna()]
        bars = [f"{row_label(row)}: {ratio_text(row, name)}" for row in rows_of(measured)]
        what = f"Inference energy as a multiple of the dense network's beside it, {kind}"
        sentences.append(f"{what}, {batch_label('large_batch', table)}. {'; '.join(bars) or 'No figures'}.")
    return " ".join(sentences) or "No energy figures."


def kinds_present(table: pd.DataFrame) -> list[Kind]:
    """The kinds of energy that a `comparison` has a figure of, most trustworthy first."""
    names = ("train_energy_{kind}_j_mean", "large_batch_energy_ratio_{kind}_mean")
    return [kind for kind in KINDS if any(table[name.format(kind=kind)].notna().any() for name in names)]
