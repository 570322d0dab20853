"""Power during training, with the phases of the method."""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
import pandas as pd
from greenprune.bench.text import plural, three_digits
from greenprune.plots.figures.canvas import comparison_of_one, new_figure, one_legend, row_label
from greenprune.plots.figures.power_samples import read_power, stretches, thinned
from greenprune.plots.figures.style import RC
from greenprune.plots.frame.comparison import rows_of
from greenprune.plots.frame.frame import Results
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MOST_PANELS = 6
POINTS = 400  # of a line: more than a page can show
PHASE_COLORS = ("#E8EEF4", "#FBF0DC", "#E6F2EA", "#F5E6EE")
SOURCE_COLORS = ("#1B1B1B", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6E6E6E")

Trace = tuple[str, pd.DataFrame]


@mpl.rc_context(RC)
def power_over_time(results: Results) -> Figure:
    """Watts against minutes, a panel for each method (first seed, smallest budget), a line for each source."""
    comparison_of_one(results)
    found = traces(results)
    figure, panels = new_figure(10.0, 0.6 + 2.3 * max(1, len(found)), rows=max(1, len(found)))
    colors: dict[str, str] = {}
    phases = list(dict.fromkeys(name for _, samples in found for name, _, _ in stretches(samples)))
    shades = {name: PHASE_COLORS[i % len(PHASE_COLORS)] for i, name in enumerate(phases)}
    for axes, (name, samples) in zip(panels, found, strict=False):
        _phases(axes, samples, shades)
        for (source, kind), rows in samples.groupby(["source", "kind"], sort=True):
            label = f"{source} ({kind})"
            color = colors.setdefault(label, SOURCE_COLORS[len(colors) % len(SOURCE_COLORS)])
            line = thinned(rows, POINTS)
            axes.plot(line["time_s"] / 60, line["power_w"], color=color, drawstyle="steps-pre", label=label)
        axes.set_title(name, pad=26)
        axes.set_ylabel("Power, W")
        axes.set_ylim(0, 1.1 * samples["power_w"].max() or 1.0)
        axes.grid(visible=False, axis="x")
    longest_s = max((float(samples["time_s"].iloc[-1]) for _, samples in found), default=1.0)
    for axes in panels:
        axes.set_xlim(0, longest_s / 60)
    panels[-1].set_xlabel("Time since the run began, min")
    one_legend(figure, panels)
    return figure


def traces(results: Results) -> list[Trace]:
    """One run of each method that has samples with watts to draw: its smallest budget, its first seed."""
    found: list[Trace] = []
    runs = results.runs.assign(number=range(len(results.runs)), other=results.runs["method_name"] != "dense")
    for _, rows in runs[runs["valid"]].groupby(["other", "method"], sort=True):
        for row in rows_of(rows.sort_values(["budget", "seed"])):
            samples = read_power(results.places[row["number"]])
            if samples is not None and math.isfinite(samples["power_w"].max()):  # else no axis of watts can be drawn
                found.append((f"{row_label(row)}, seed {row['seed']}", samples))
                break
    return found[:MOST_PANELS]


def _phases(axes: Axes, samples: pd.DataFrame, shades: dict[str, str]) -> None:
    """Shaded, each with its name above, unless it is too narrow for a name."""
    found = stretches(samples)
    whole_s = samples["time_s"].max() - samples["time_s"].min() or 1.0
    for name, begin_s, end_s in found:
        axes.axvspan(begin_s / 60, end_s / 60, color=shades[name], linewidth=0)
        if (end_s - begin_s) / whole_s > 0.012 * len(name):
            style: dict[str, Any] = {"ha": "left", "va": "bottom", "fontsize": 11, "color": "#555555"}
            axes.annotate(name, (begin_s / 60, 1.0), (2, 3), axes.get_xaxis_transform(), "offset points", **style)


def has_power(results: Results) -> bool:
    return bool(traces(results))


def power_in_words(results: Results) -> str:
    sentences = []
    for name, samples in traces(results):
        phases = ", ".join(dict.fromkeys(phase for phase, _, _ in stretches(samples)))
        sources = samples.groupby("source", sort=True)["power_w"].mean().dropna()
        means = "; ".join(f"{source}: {three_digits(mean)} W on average" for source, mean in sources.items())
        sentences.append(f"{name} (phases: {phases}): {means}")
    return f"Power over time of {plural(len(sentences), 'training')}. {'. '.join(sentences)}."
