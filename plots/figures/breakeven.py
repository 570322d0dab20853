"""When a pruned network has paid back its training."""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
import numpy as np
from greenprune.bench.text import three_digits
from greenprune.plots.figures.canvas import comparison_of_one, new_figure, title
from greenprune.plots.figures.style import RC, Look, looks
from greenprune.plots.frame.breakeven import BreakEven, Interval, break_even
from greenprune.plots.frame.frame import Results
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

CURVE_POINTS = 200
MOST_CURVES = 9


@mpl.rc_context(RC)
def energy_break_even(results: Results) -> Figure:
    """Left: joules saved against dense over the number of inferences. Right: inferences until training is paid back."""
    table, look = comparison_of_one(results), looks(results.runs)
    entries = break_even(results)
    figure, (left, right) = new_figure(11.5, 3.0 + 0.26 * max(6, len(entries)), columns=2)
    if entries:
        ends = _ends(entries)
        _curves(left, entries, look, ends)
        _intervals(right, entries, look, ends)
        figure.suptitle(title(results, table, "mean of"), x=0.01, ha="left", fontsize=RC["axes.titlesize"])
    return figure


def has_break_even(results: Results) -> bool:
    return bool(break_even(results))


def _ends(entries: tuple[BreakEven, ...]) -> tuple[float, float]:
    """Powers of ten around every finite number of inferences."""
    found = [n for entry in entries for n in _numbers(entry.already_trained) if 0 < n < math.inf]
    found += [n for entry in entries if entry.instead for n in _numbers(entry.instead) if 0 < n < math.inf]
    low, high = (min(found), max(found)) if found else (1e3, 1e8)
    return 10.0 ** math.floor(math.log10(low) - 0.3), 10.0 ** math.ceil(math.log10(high) + 0.3)


def _numbers(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


def _curves(axes: Axes, entries: tuple[BreakEven, ...], look: dict[str, Look], ends: tuple[float, float]) -> None:
    """Both networks trained: joules saved in per cent of the dense network's, after n inferences."""
    inferences = np.geomspace(*ends, CURVE_POINTS)
    smallest = {entry.method: min(e.budget for e in entries if e.method == entry.method) for entry in entries}
    shown = [entry for entry in entries if entry.instead and entry.budget == smallest[entry.method]][:MOST_CURVES]
    for entry in shown:
        dense_j = entry.dense_training_j + inferences * entry.dense_inference_j
        mean, low, high = (100 * saved / dense_j for saved in entry.saved_j(inferences))
        color = look[entry.method].color
        axes.fill_between(inferences, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(inferences, mean, color=color, linewidth=1.8)
        each = max(1, CURVE_POINTS // 6)
        axes.plot(inferences[::each], mean[::each], color=color, marker=look[entry.method].marker, linestyle="")
    axes.axhline(0, color="black", linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(*ends)
    axes.set_xlabel("Inferences (images)")
    axes.set_ylabel("Energy saved in all, % of dense")
    axes.set_title("Training and inference together")
    axes.xaxis.set_major_locator(LogLocator(numticks=6))
    axes.xaxis.set_major_formatter(_power_of_ten)
    axes.minorticks_off()
    if not shown:
        axes.text(0.5, 0.5, "no dense training to compare with", transform=axes.transAxes, ha="center")


def _intervals(axes: Axes, entries: tuple[BreakEven, ...], look: dict[str, Look], ends: tuple[float, float]) -> None:
    """A dense network is there already: how many inferences pay for the whole training of the pruned one."""
    for row, entry in enumerate(entries):
        style: dict[str, Any] = {"color": look[entry.method].color, "marker": look[entry.method].marker}
        n = entry.already_trained
        stop = min(n.high, ends[1])
        if n.low < math.inf:
            axes.plot([n.low, stop], [row, row], color=style["color"], linewidth=2, solid_capstyle="butt")
        if n.value < math.inf:
            axes.plot([n.value], [row], **style, markersize=9, markeredgecolor="white", linestyle="")
        if math.isinf(n.value):
            axes.text(ends[0] * 1.2, row, "never: no saving shown", va="center", fontsize=11)
        elif math.isinf(n.high):
            axes.plot([ends[1]], [row], color=style["color"], marker=">", markersize=8, clip_on=False, linestyle="")
    axes.set_yticks(range(len(entries)), [f"{entry.method} {entry.budget * 100:g} %" for entry in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.set_xlim(*ends)
    axes.set_xlabel("Inferences until training is paid back")
    axes.set_title("A dense network is there already")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(LogLocator(numticks=6))
    axes.xaxis.set_major_formatter(_power_of_ten)
    axes.minorticks_off()


def break_even_in_words(results: Results) -> str:
    sentences = []
    for entry in break_even(results):
        text = f"{entry.method} {entry.budget * 100:g} %: {inferences_text(entry.already_trained)} with a dense network"
        text += " there already"
        if entry.instead is not None:
            text += f", {inferences_text(entry.instead)} when trained instead of one"
        sentences.append(text)
    return f"Inferences until the energy of training is paid back. {'; '.join(sentences)}."


def inferences_text(interval: Interval) -> str:
    """`1.2 million [0.9 million, 1.8 million]`, `from the start` or `never`."""
    return _count(interval.value) + (
        f" [{_count(interval.low)}, {_count(interval.high)}]" if interval.low != interval.high else ""
    )


def _count(inferences: float) -> str:
    if math.isinf(inferences):
        return "never"
    if inferences <= 0:
        return "from the start"
    if inferences >= 1e6:
        return f"{three_digits(inferences / 1e6)} million"
    return three_digits(inferences) if inferences >= 1 else "1"


def _power_of_ten(value: float, _: float = 0) -> str:
    """`10⁶`, without matplotlib's mathematics, which no figure here reads; other numbers as they are."""
    exponent = round(math.log10(value)) if value > 0 else 0
    if not math.isclose(value, 10.0**exponent):
        return f"{value:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
