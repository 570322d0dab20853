"""The score against what a network costs: MACs, joules of training, joules of inference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from greenprune.bench.energy.reading import KINDS, Kind
from greenprune.bench.records.score import figure_text, in_percent
from greenprune.bench.text import three_digits
from greenprune.plots.figures.canvas import comparison_of_one, new_figure, one_legend, row_label, title
from greenprune.plots.figures.pareto import pareto_front
from greenprune.plots.figures.style import RC, looks
from greenprune.plots.frame.comparison import REFERENCE, batch_label, comparison, rows_of
from greenprune.plots.frame.frame import Results
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INVALID_MARKER = "x"
LEAST_HEIGHT_POINTS = 2.0  # noise shall not fill the axes
LEAST_HEIGHT_SHARE = 0.02  # of the largest score, where it is none in per cent
FRONT: dict[str, Any] = {"color": "#F0D000", "alpha": 0.45, "linewidth": 7, "solid_capstyle": "round", "zorder": 1.5}


@dataclass(frozen=True)
class Cost:
    """What is drawn to the right.

    Attributes:
        label: of the axis, with the unit.
        mean, low, high: of each row of a `comparison`.
        runs: of each run of `Results.runs`, by the run's key.
    """

    label: str
    mean: pd.Series[float]
    low: pd.Series[float]
    high: pd.Series[float]
    runs: pd.Series[float]


@mpl.rc_context(RC)
def score_against_macs(results: Results) -> Figure:
    """The score on the test set against kept MACs in % of dense: a small point per run, mean ± sd over seeds per budget."""
    table = comparison_of_one(results)
    mean, sd = table["kept_macs_percent_mean"], table["kept_macs_percent_sd"]
    runs = _by_key(results.runs, results.runs["kept_macs"] * 100)
    figure = _drawn(results, table, [Cost("MACs kept, % of dense", mean, mean - sd, mean + sd, runs)])
    _until_dense(figure.axes[0], runs.min())
    return figure


@mpl.rc_context(RC)
def score_against_training_energy(results: Results) -> Figure:
    """The score on the test set against the joules of the whole training; a panel for each kind of energy."""
    table = comparison_of_one(results)
    return _drawn(results, table, [_training(results, table, kind) for kind in training_kinds(results)])


@mpl.rc_context(RC)
def score_against_inference_energy(results: Results) -> Figure:
    """The score on the test set against the joules of inference relative to dense, side by side; a panel for each kind."""
    table = comparison_of_one(results)
    return _drawn(results, table, [_inference(results, table, kind) for kind in inference_kinds(results)])


def training_kinds(results: Results) -> list[Kind]:
    """The kinds of energy for which a training has a figure."""
    return [kind for kind in KINDS if results.runs[f"train_energy_{kind}_j"].notna().any()]


def inference_kinds(results: Results) -> list[Kind]:
    """The kinds of energy for which inference has a figure next to dense, at the large batch."""
    table = comparison(results)
    return [kind for kind in KINDS if table[f"large_batch_energy_ratio_{kind}_mean"].notna().any()]


def _training(results: Results, table: pd.DataFrame, kind: Kind) -> Cost:
    """The error bars are the spread over seeds: the bounds of a model are shared by all of its points."""
    name = f"train_energy_{kind}_j"
    mean, sd = table[f"{name}_mean"] / 1000, table[f"{name}_sd"] / 1000
    runs = _by_key(results.runs, results.runs[name] / 1000)
    return Cost(f"Training energy, kJ ({kind})", mean, mean - sd, mean + sd, runs)


def _inference(results: Results, table: pd.DataFrame, kind: Kind) -> Cost:
    """The error bars are the spread over seeds; of a single run, the 95 % interval of its blocks."""
    name = f"large_batch_energy_ratio_{kind}"
    mean, sd, several = table[f"{name}_mean"], table[f"{name}_sd"], table["runs"] > 1
    large = results.inference[results.inference["batch_size"] == table["large_batch_size"].iloc[0]]
    label = f"Inference energy, × dense ({kind}, {batch_label('large_batch', table)})"
    low = (mean - sd).where(several, table[f"{name}_low"])
    high = (mean + sd).where(several, table[f"{name}_high"])
    return Cost(label, mean, low, high, _by_key(large, large[f"energy_ratio_{kind}"]))


def _by_key(frame: pd.DataFrame, values: pd.Series[float]) -> pd.Series[float]:
    return pd.Series(values.to_numpy(), index=frame["key"].to_numpy(), dtype=float)


def _drawn(results: Results, table: pd.DataFrame, costs: list[Cost]) -> Figure:
    """A panel for each cost, one below the other, with one legend for all."""
    figure, panels = new_figure(9.0, 0.6 + 4.4 * max(1, len(costs)), rows=max(1, len(costs)))
    for axes, cost in zip(panels, costs, strict=False):
        _panel(axes, results, table, cost)
    if not costs:
        panels[0].set_axis_off()
        panels[0].text(0, 0.5, "These records hold no such energy figures.")
    figure.suptitle(
        title(results, table, "mean ± standard deviation of"), x=0.01, ha="left", fontsize=RC["axes.titlesize"]
    )
    one_legend(figure, panels)
    return figure


def _panel(axes: Axes, results: Results, table: pd.DataFrame, cost: Cost) -> None:
    look, score = looks(results.runs), "test_score"
    valid = table["valid"] & cost.mean.notna()
    for row in rows_of(table[table["valid"] & (table["method_name"] == REFERENCE)]):
        mean, sd = row[f"{score}_mean"], row[f"{score}_sd"]
        color = look[row["method"]].color
        axes.axhline(mean, color=color, linewidth=1.2, linestyle="--")
        axes.axhspan(mean - sd, mean + sd, color=color, alpha=0.1, linewidth=0)
    x, y = cost.mean[valid].to_numpy(), table[f"{score}_mean"][valid].to_numpy()
    higher, label = bool(table["higher_is_better"].iloc[0]), str(table["score"].iloc[0])
    least_height = LEAST_HEIGHT_POINTS if in_percent(label) else LEAST_HEIGHT_SHARE * float(abs(y).max(initial=0.0))
    front = pareto_front(list(x), list(y if higher else -y))
    if len(front) > 1:
        axes.plot(x[front], y[front], label="Pareto front", **FRONT)
    best_first = table[valid].groupby("method")[f"{score}_mean"].mean().sort_values(ascending=not higher).index
    for method in best_first:
        rows = table[valid & (table["method"] == method)]
        rows = rows.loc[cost.mean[rows.index].sort_values().index]
        runs = results.runs[(results.runs["method"] == method) & results.runs["valid"]]
        style: dict[str, Any] = {"color": look[method].color, "marker": look[method].marker}
        x, y, sd_y = cost.mean[rows.index], rows[f"{score}_mean"], rows[f"{score}_sd"]
        bounds = ((x - cost.low[rows.index]).clip(lower=0), (cost.high[rows.index] - x).clip(lower=0))
        at = cost.runs.reindex(runs["key"]).to_numpy()
        axes.plot(at, runs["test_score"], **style, linestyle="", markersize=4, alpha=0.4)
        axes.errorbar(x, y, xerr=bounds, yerr=sd_y, color=style["color"], linestyle="", elinewidth=1.5, capsize=2.5)
        line = "--" if (rows["method_name"] == REFERENCE).all() else "-" if len(rows) > 1 else ""  # as it is drawn
        axes.plot(x, y, **style, markersize=9, markeredgecolor="white", linestyle=line, linewidth=1.5, label=method)
    invalid = results.runs[~results.runs["valid"]]
    if len(invalid):
        colors = [look[method].color for method in invalid["method"]]
        where = (cost.runs.reindex(invalid["key"]).to_numpy(), invalid["test_score"])
        axes.scatter(*where, c=colors, marker=INVALID_MARKER, s=70, label="invalid run")
    _widen(axes, least_height)
    axes.set_xlabel(cost.label)
    axes.set_ylabel(f"Test {label}" if higher else f"Test {label} (lower is better)")


def _widen(axes: Axes, least_height: float) -> None:
    low, high = axes.get_ylim()
    missing = max(0.0, least_height - (high - low))
    axes.set_ylim(low - missing / 2, high + missing / 2)
    left, right = axes.get_xlim()
    missing = max(0.0, 0.1 * max(abs(left), abs(right)) - (right - left))  # a tenth of the figure itself, at least
    axes.set_xlim(left - missing / 2, right + missing / 2)


def _until_dense(axes: Axes, smallest: float) -> None:
    """From just below the smallest network to the dense one."""
    axes.set_xlim(min(95.0, max(0.0, smallest - 0.12 * (100 - smallest))), 100 + max(0.5, 0.06 * (100 - smallest)))


def score_in_words(results: Results) -> str:
    table = comparison(results)
    points = [
        f"{row_label(row)}: {_figure(row)} at {row['kept_macs_percent_mean']:.1f} % of the MACs"
        for row in rows_of(table)
    ]
    return f"{_what(table)} against kept MACs. {'; '.join(points)}."


def _what(table: pd.DataFrame) -> str:
    row = table.iloc[0]
    name, _, _ = str(row["score"]).partition(", ")
    return f"Test {name}{'' if row['higher_is_better'] else ' (lower is better)'}"


def _figure(row: dict[str, Any]) -> str:
    """The mean score with its unit; "no score" where a run has none."""
    if not math.isfinite(row["test_score_mean"]):
        return "no score"
    _, _, unit = str(row["score"]).partition(", ")
    return f"{figure_text(row['test_score_mean'], row['score'])} {unit}".rstrip()


def training_energy_in_words(results: Results) -> str:
    table = comparison(results)
    return " ".join(_in_words(table, _training(results, table, kind), "kJ") for kind in training_kinds(results))


def inference_energy_in_words(results: Results) -> str:
    table = comparison(results)
    return " ".join(
        _in_words(table, _inference(results, table, kind), "times dense") for kind in inference_kinds(results)
    )


def _in_words(table: pd.DataFrame, cost: Cost, unit: str) -> str:
    valid = table[table["valid"]]
    points = [
        f"{row_label(row)}: {_figure(row)} at {three_digits(value)} {unit}"
        for row, value in zip(rows_of(table), cost.mean, strict=True)
        if not np.isnan(value)
    ]
    gains = valid["test_score_mean"] * np.where(valid["higher_is_better"], 1.0, -1.0)
    front = pareto_front(list(cost.mean[valid.index]), list(gains))
    names = ", ".join(row_label(row) for row in rows_of(valid.iloc[front]))
    return f"{_what(table)} against {cost.label}. {'; '.join(points)}. On the Pareto front: {names}."
