"""Whether methods kept to their budget, and whether saved MACs are saved time and energy."""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
import pandas as pd
from greenprune.bench.energy.reading import Kind
from greenprune.bench.records.validity import measured_bounds
from greenprune.bench.text import listed
from greenprune.plots.figures.canvas import comparison_of_one, new_figure, one_legend, title
from greenprune.plots.figures.score import inference_kinds
from greenprune.plots.figures.style import RC, looks
from greenprune.plots.frame.comparison import COUNTED, REFERENCE, batch_label, comparison, rows_of
from greenprune.plots.frame.frame import Results
from greenprune.plots.frame.views import name_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MEASURED = ("latency", "energy")
SPREAD = 0.7  # of the space between two budgets, shared by the methods


def has_pruned(results: Results) -> bool:
    return bool((results.runs["method_name"] != REFERENCE).any())


def has_measured_saving(results: Results) -> bool:
    table = comparison(results)
    pruned = table[(table["method_name"] != REFERENCE) & table["valid"]]
    return bool(pruned["large_batch_latency_ratio_mean"].notna().any())


@mpl.rc_context(RC)
def budget_achieved(results: Results) -> Figure:
    """Kept minus requested cost, in points of the dense one: a point for each run, side by side within a budget.

    Of each run what its budget counts: MACs, connections, time.
    """
    comparison_of_one(results)
    look = looks(results.runs)
    runs = results.runs[results.runs["method_name"] != REFERENCE]
    tolerance = {record.key: record.cost.tolerance for record in results.records if record.cost}
    budgets, methods = sorted(set(runs["budget"])), sorted(set(runs["method"]))
    figure, (axes,) = new_figure(9.0, 4.6)
    for place, budget in enumerate(budgets):
        low, high = _allowed(runs[runs["budget"] == budget], tolerance)
        label = "allowed" if place == 0 else None
        axes.fill_between(
            [place - 0.45, place + 0.45], low, high, color="#DCEBDD", linewidth=0, zorder=0.5, label=label
        )
    for number, method in enumerate(methods):
        offset = (number - (len(methods) - 1) / 2) * SPREAD / max(1, len(methods))
        for valid, marker in ((True, look[method].marker), (False, "x")):
            rows = runs[(runs["method"] == method) & (runs["valid"] == valid)]
            rows = rows[rows["kept"].notna()]  # a time that could not be compared with the dense network's
            if len(rows):
                at = [budgets.index(budget) + offset for budget in rows["budget"]]
                missed = (rows["kept"] - rows["budget"]) * 100
                name = method if valid else "invalid run"
                axes.plot(at, missed, color=look[method].color, marker=marker, linestyle="", markersize=7, label=name)
    axes.axhline(0, color="black", linewidth=1)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -2.5), max(high, 0.6))
    axes.set_xlim(-0.5, len(budgets) - 0.5)
    axes.set_xticks(range(len(budgets)), [f"{budget * 100:g}" for budget in budgets])
    axes.grid(visible=False, axis="x")
    counted = listed([COUNTED[kind] for kind in sorted(set(runs["budget_cost"]), key=list(COUNTED).index)])
    axes.set_xlabel(f"{counted[:1].upper()}{counted[1:]} requested, % of dense")
    axes.set_ylabel(f"Kept − requested,\npoints of the dense {'MACs' if counted == 'MACs' else 'cost'}")
    axes.set_title(f"{name_of(results.runs.iloc[0])}: each point is a run")
    one_legend(figure, [axes])
    return figure


def _allowed(runs: pd.DataFrame, tolerance: dict[str, float]) -> tuple[float, float]:
    """How far below and above its budget a run may end, in points: the widest of these runs, which share a budget."""
    measured = runs["budget_cost"].isin(MEASURED)
    budget = float(runs["budget"].max())
    around = 100 * (measured_bounds(budget)[1] - budget) if measured.any() else 0.0
    return -max([around, *(100 * tolerance[key] for key in runs[~measured]["key"])]), around


def budget_in_words(results: Results) -> str:
    pruned = comparison(results)
    pruned = pruned[pruned["method_name"] != REFERENCE]
    points = [
        f"{row['method']}{'' if row['valid'] else ' (invalid)'}: {_kept(row)} for "
        f"{row['budget'] * 100:g} % of the {COUNTED[row['budget_cost']]}"
        for row in rows_of(pruned)
    ]
    return f"Kept for requested cost. {'; '.join(points)}."


def _kept(row: dict[str, Any]) -> str:
    kept = row["kept_percent_mean"]
    return f"{kept:.1f} %" if math.isfinite(kept) else "unknown"


@mpl.rc_context(RC)
def saving_predicted_and_measured(results: Results) -> Figure:
    """Saved time and saved energy of inference against saved MACs, in %; on the line, MACs predict what is saved."""
    table = comparison_of_one(results)
    kinds = inference_kinds(results)[:1]
    figure, panels = new_figure(5.2 * (1 + len(kinds)) + 1.4, 5.2, columns=1 + len(kinds))
    at = batch_label("large_batch", table)
    _saving(panels[0], results, table, "large_batch_latency_ratio", f"Time saved, %\n({at})")
    for axes, kind in zip(panels[1:], kinds, strict=True):
        _saving(axes, results, table, _ratio(kind), f"Energy saved, %\n({kind}, {at})")
    figure.suptitle(title(results, table, "mean ± standard deviation of"), x=0.01, ha="left", fontsize=13)
    one_legend(figure, panels)
    return figure


def _ratio(kind: Kind) -> str:
    return f"large_batch_energy_ratio_{kind}"


def _saving(axes: Axes, results: Results, table: pd.DataFrame, name: str, label: str) -> None:
    look = looks(results.runs)
    pruned = table[(table["method_name"] != REFERENCE) & table["valid"] & table[f"{name}_mean"].notna()]
    axes.plot([0, 100], [0, 100], color="black", linestyle="--", linewidth=1, label="as MACs predict")
    axes.axhline(0, color="black", linewidth=0.8)
    for method, rows in pruned.groupby("method", sort=True):
        rows = rows.sort_values("kept_macs_percent_mean")
        several = rows["runs"] > 1
        mean = 100 * (1 - rows[f"{name}_mean"])
        low = (mean - 100 * rows[f"{name}_sd"]).where(several, 100 * (1 - rows[f"{name}_high"]))
        high = (mean + 100 * rows[f"{name}_sd"]).where(several, 100 * (1 - rows[f"{name}_low"]))
        saved_macs = 100 - rows["kept_macs_percent_mean"]
        style = look[str(method)]
        bounds = ((mean - low).clip(lower=0), (high - mean).clip(lower=0))
        axes.errorbar(saved_macs, mean, yerr=bounds, color=style.color, linestyle="", elinewidth=1.5, capsize=2.5)
        line = "-" if len(rows) > 1 else ""
        axes.plot(
            saved_macs, mean, color=style.color, marker=style.marker, markersize=9, markeredgecolor="white",
            linestyle=line, linewidth=1.5, label=str(method),
        )  # fmt: skip
    axes.set_xlim(-3, 100)  # room for the marker of a network that saves no MACs
    axes.set_ylim(min(-5.0, axes.get_ylim()[0]), 100)
    axes.set_xlabel("MACs saved, % of dense")
    axes.set_ylabel(label)


def saving_in_words(results: Results) -> str:
    table = comparison(results)
    pruned = table[(table["method_name"] != REFERENCE) & table["valid"]]
    kinds = inference_kinds(results)[:1]
    sentences = []
    for row in rows_of(pruned):
        saved = [("MACs", 100 - row["kept_macs_percent_mean"]), ("time", _percent(row, "large_batch_latency_ratio"))]
        saved += [(f"energy ({kind})", _percent(row, _ratio(kind))) for kind in kinds]
        said = ", ".join(f"{percent:.0f} % of {what}" for what, percent in saved if percent == percent)
        sentences.append(f"{row['method']} {row['budget'] * 100:g} %: {said}")
    return f"Saved by the pruned networks, {batch_label('large_batch', table)}. {'; '.join(sentences)}."


def _percent(row: dict[str, object], name: str) -> float:
    return 100 * (1 - float(row[f"{name}_mean"]))  # type: ignore[arg-type]
