"""Figures: each a function of the `Results` of one comparison (see `Results.comparisons`), drawn from the same
numbers as the tables.

`FIGURES` lists them; `render` turns one into the bytes of a PNG or SVG file, the same bytes for the same data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from bench.energy.reading import Kind
from plots.frame import KINDS, Results
from plots.style import RC, Look, looks
from plots.tables import REFERENCE, batch_label, comparison, rows_of
from plots.text import plural, three_digits

INVALID_MARKER, INVALID_HATCH = "x", "////"
METHOD_GAP = 0.35  # between the bars of two methods, in bars


@dataclass(frozen=True)
class FigureSpec:
    """A figure of the report.

    Attributes:
        name: the file name without its ending.
        title: for people.
        draw: from the results of one comparison.
        describe: from the `comparison` of these results: the figure in words, for those who can't see it.
        caption: what is drawn and how to read it.
    """

    name: str
    title: str
    draw: Callable[[Results], Figure]
    describe: Callable[[pd.DataFrame], str]
    caption: str


@mpl.rc_context(RC)
def accuracy_against_macs(results: Results) -> Figure:
    """Test accuracy in % against kept MACs in % of dense: a small point per run, mean ± sd over seeds per budget."""
    table, look = _comparison_of_one(results), looks(results.runs)
    figure, (axes,) = _figure(9.0, 5.4)
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
        axes.plot(x, y, **style, markersize=9, markeredgecolor="white", linewidth=1.5, label=method)
    invalid = results.runs[~results.runs["valid"]]
    if len(invalid):
        colors = [look[method].color for method in invalid["method"]]
        where = (invalid["kept_macs"] * 100, invalid["test_accuracy"] * 100)
        axes.scatter(*where, c=colors, marker=INVALID_MARKER, s=70, label="invalid run")
    _widen(axes, results.runs)
    axes.set_title(_title(results, table, "mean ± standard deviation of"))
    axes.set_xlabel("MACs kept, % of dense")
    axes.set_ylabel("Test accuracy, %")
    figure.legend(loc="outside right upper")
    return figure


def _widen(axes: Axes, runs: pd.DataFrame) -> None:
    """From below the smallest network to the dense one, and at least two points high: noise shall not fill the axes."""
    smallest = runs["kept_macs"].min() * 100
    axes.set_xlim(max(0, 10 * (smallest // 10) - 10), 103)
    low, high = axes.get_ylim()
    missing = max(0.0, 2.0 - (high - low))
    axes.set_ylim(low - missing / 2, high + missing / 2)


@mpl.rc_context(RC)
def energy_per_method(results: Results) -> Figure:
    """Energy of training in kJ, and of inference relative to dense; a row of panels for each kind of energy.

    Of inference only the ratio is drawn: it was measured side by side, within one process, while the joules of different
    runs come from different times on a machine that is not always equally busy.
    """
    table, look = _comparison_of_one(results), looks(results.runs)
    kinds = kinds_present(table)
    if not kinds:
        figure, (axes,) = _figure(9.0, 1.5)
        axes.set_axis_off()
        axes.text(0, 0.5, "These records hold no energy figures.")
        return figure
    large = results.inference[results.inference["batch_size"] == table["large_batch_size"].iloc[0]]
    at = batch_label("large_batch", table)
    figure, panels = _figure(10.5, 1.0 + len(kinds) * (1.0 + 0.3 * len(table)), rows=len(kinds), columns=2)
    for row, kind in enumerate(kinds):
        training, inference = panels[2 * row : 2 * row + 2]
        _bars(training, table, f"train_energy_{kind}_j", results.runs, f"train_energy_{kind}_j", look, per=1000)
        training.set_xlabel(f"Training energy, kJ\n({kind})")
        name = f"energy_ratio_{kind}"
        _bars(inference, table, f"large_batch_{name}", large, name, look, reference=1.0)
        inference.set_xlabel(f"Inference energy, × dense side by side\n({kind}, {at})")
        inference.tick_params(labelleft=False)
    figure.suptitle(_title(results, table, "mean of"), x=0.01, ha="left", fontsize=RC["axes.titlesize"])
    return figure


def _accuracy_in_words(table: pd.DataFrame) -> str:
    points = []
    for row in rows_of(table):
        accuracy, kept = row["test_accuracy_percent_mean"], row["kept_macs_percent_mean"]
        points.append(f"{_bar_label(row)}: {accuracy:.2f} % at {kept:.1f} % of the MACs")
    return f"Test accuracy against kept MACs. {'; '.join(points)}."


def _energy_in_words(table: pd.DataFrame) -> str:
    sentences = []
    for kind in kinds_present(table):
        for what, name, per in (
            ("Training energy in kJ", f"train_energy_{kind}_j_mean", 1000),
            ("Inference energy relative to dense", f"large_batch_energy_ratio_{kind}_mean", 1),
        ):
            bars = [
                f"{_bar_label(row)}: {three_digits(row[name] / per)}" for row in rows_of(table[table[name].notna()])
            ]
            sentences.append(f"{what}, {kind}. {'; '.join(bars) or 'No figures'}.")
    return " ".join(sentences) or "No energy figures."


def kinds_present(table: pd.DataFrame) -> list[Kind]:
    """The kinds of energy that a `comparison` has a figure of, most trustworthy first."""
    names = ("train_energy_{kind}_j_mean", "large_batch_energy_{kind}_j_per_1000_images_mean")
    return [kind for kind in KINDS if any(table[name.format(kind=kind)].notna().any() for name in names)]


FIGURES = (
    FigureSpec(
        "accuracy_against_macs",
        "Accuracy against kept MACs",
        accuracy_against_macs,
        _accuracy_in_words,
        "Small points are runs, large ones the mean over seeds with its standard deviation; lines connect the budgets "
        "of a method. The dashed line is the dense network, the band its standard deviation. Up and to the left "
        "is better.",
    ),
    FigureSpec(
        "energy_per_method",
        "Energy of training and inference",
        energy_per_method,
        _energy_in_words,
        "Bars are means over seeds, dots are runs. Left, error bars are the bounds of each figure (quantisation of a "
        "counter, range of a model's assumptions), not the spread over seeds; the assumptions of a model are shared "
        "by all bars, so they move together. Right, each network is compared with the dense one in interleaved blocks "
        "of one process, and error bars are 95 % intervals over the blocks; how far the dense network's own bar is from "
        "the line shows the noise. The dashed line is the dense network. Shorter is better.",
    ),
)


def render(figure: Figure, file_format: Literal["png", "svg"]) -> bytes:
    """The bytes of the figure's file; no date in it, so that it changes only with the data."""
    file = BytesIO()
    with mpl.rc_context(RC):
        figure.savefig(file, format=file_format, metadata={"Date": None} if file_format == "svg" else None)
    return file.getvalue()


def _figure(width_in: float, height_in: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure independent of pyplot and its global state, and its panels row by row."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _comparison_of_one(results: Results) -> pd.DataFrame:
    if len(results.comparisons()) != 1:
        raise ValueError("a figure shows one comparison; draw each of results.comparisons() by itself")
    return comparison(results)


def _title(results: Results, table: pd.DataFrame, statistic: str) -> str:
    """The suite, and how many runs are behind a point."""
    counts = sorted(set(table["runs"]))
    seeds = plural(counts[0], "seed") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    return f"{results.runs['suite'].iloc[0]}: " + ("one seed" if counts == [1] else f"{statistic} {seeds}")


def _bars(
    axes: Axes,
    table: pd.DataFrame,
    name: str,
    runs: pd.DataFrame,
    run_name: str,
    look: dict[str, Look],
    *,
    per: float = 1.0,
    reference: float | None = None,
) -> None:
    """A horizontal bar for each row of the table with its bounds, and a dot for each of several runs behind it.

    A dashed line marks `reference`, or else the dense network's bar.
    """
    mean, low, high = (table[f"{name}_{end}"] / per for end in ("mean", "low", "high"))
    new_method = table["method"] != table["method"].shift()
    positions = [float(i + METHOD_GAP * groups) for i, groups in enumerate(new_method.cumsum())]
    for position, row, value in zip(positions, rows_of(table), mean, strict=True):
        color = look[row["method"]].color
        fill: dict[str, Any] = {"color": color}
        if not row["valid"]:
            fill = {"facecolor": "white", "edgecolor": color, "hatch": INVALID_HATCH}
        axes.barh(position, value, height=0.76, **fill)
        if row["runs"] > 1:
            behind = runs[
                (runs[["method", "budget", "valid"]] == [row["method"], row["budget"], row["valid"]]).all(axis=1)
            ]
            dots: dict[str, Any] = {"s": 16, "color": "white", "edgecolor": "black", "linewidth": 0.8, "zorder": 4}
            axes.scatter(behind[run_name] / per, [position] * len(behind), **dots)
        if reference is None and row["method_name"] == REFERENCE and row["valid"]:
            reference = value
    if reference is not None:
        axes.axvline(reference, color="black", linestyle="--", linewidth=1)
    bounds = ((mean - low).clip(lower=0), (high - mean).clip(lower=0))  # a bound may miss its figure by rounding
    *_, lines = axes.errorbar(mean, positions, xerr=bounds, linestyle="", color="#222222", elinewidth=1.5)
    for line in lines:
        line.set_path_effects([withStroke(linewidth=3.5, foreground="white")])  # visible on the dark bars too
    if mean.isna().all():
        axes.text(0.5, 0.5, "no such figures", transform=axes.transAxes, ha="center")
    axes.set_yticks(positions, [_bar_label(row) for row in rows_of(table)])
    axes.set_ylim(positions[-1] + 0.7, positions[0] - 0.7)  # the first row at the top
    axes.set_xlim(left=0)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _bar_label(row: dict[str, Any]) -> str:
    budget = "" if row["method_name"] == REFERENCE else f" {row['budget'] * 100:g} %"
    return f"{row['method']}{budget}{'' if row['valid'] else ' (invalid)'}"
