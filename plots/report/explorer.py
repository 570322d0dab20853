"""What the interactive figure of the report is made of: plain data, for the scripts in js/."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from greenprune.bench.foreign import visible
from greenprune.plots.figures.style import looks
from greenprune.plots.frame.comparison import COUNTED, REFERENCE, rows_of
from greenprune.plots.frame.frame import Results
from greenprune.plots.frame.views import name_of
from greenprune.plots.report.measures import Measured, measured, score_of
from greenprune.plots.report.names import record_file
from scipy import stats

SYMBOLS = {
    "D": "diamond", "s": "square", "X": "x", "^": "triangle-up", "v": "triangle-down", "p": "pentagon",
    "<": "triangle-left", ">": "triangle-right", "o": "circle", "h": "hexagon", "d": "diamond-tall", "P": "cross", "*": "star",
    "H": "hexagon2", "8": "octagon",
}  # fmt: skip
"""Names that plotly has for the markers of matplotlib."""

DIGITS = 6
"""Significant digits of a figure on the page."""


def explored(part: Results, name: str, first_run: int) -> dict[str, Any]:
    """One comparison: its quantities, its methods, a point for each method and budget, and its runs.

    Figures are lists [figure, low, high] in the order of the measures, None where unknown. Those of a point are means over
    its runs with their 95 % interval (Student's t); of a single run, the figure's own interval.

    Args:
        name: what links call it.
        first_run: number of its first run on the page.
    """
    found, runs = measured(part), part.runs
    look = looks(runs)
    labels = sorted(look, key=lambda label: (label not in _dense(part), label))
    score, unit, higher = score_of(part)
    points, point_of = _points(part, found)
    return {
        "name": name,
        "title": visible(name_of(runs.iloc[0])),
        "network": visible(f"{runs['model'].iloc[0]} on {runs['dataset'].iloc[0]}"),
        "machine": visible(runs["machine"].iloc[0]),
        "score": {"name": score, "unit": unit, "higher": higher},
        "measures": [vars(measure) for measure in found.measures],
        "x": found.x,
        "y": found.y,
        "cost": found.cost,
        "loss": found.loss,
        "methods": [
            {
                "label": visible(label),
                "color": look[label].color,
                "symbol": SYMBOLS[look[label].marker],
                "dense": label in _dense(part),
            }
            for label in labels
        ],
        "points": [point | {"method": labels.index(point["method"])} for point in points],
        "runs": [
            {
                "id": first_run + i,
                "key": visible(row["key"]),
                "file": record_file(row["key"]),
                "point": point_of[i],
                "seed": row["seed"],
                "values": _figures(found.values[i]),
            }
            for i, row in enumerate(rows_of(runs[["key", "seed"]]))
        ],
    }


def _dense(part: Results) -> set[str]:
    return set(part.runs["method"][part.runs["method_name"] == REFERENCE])


def _points(part: Results, found: Measured) -> tuple[list[dict[str, Any]], dict[int, int]]:
    """A point for each method, budget and validity, by that; and for each run the number of its point."""
    points: list[dict[str, Any]] = []
    point_of: dict[int, int] = {}
    names = ["method", "budget", "budget_cost", "valid"]
    for (method, budget, cost, valid), rows in part.runs.groupby(names, sort=True):
        places = rows.index.to_numpy()
        point_of |= dict.fromkeys(places.tolist(), len(points))
        points.append(
            {
                "method": method,
                "budget": budget,
                "counts": COUNTED[str(cost)],
                "valid": bool(valid),
                "runs": len(places),
                "values": _figures(over_seeds(found.values[places])),
            }
        )
    return points, point_of


def over_seeds(values: np.ndarray) -> np.ndarray:
    """Means over runs with their 95 % interval; a figure that one of the runs lacks is unknown.

    Args:
        values: (runs, measures, 3).

    Returns:
        (measures, 3).
    """
    if len(values) == 1:
        return values[0]
    mean = values[:, :, 0].mean(axis=0)
    half = stats.t.ppf(0.975, len(values) - 1) * values[:, :, 0].std(axis=0, ddof=1) / math.sqrt(len(values))
    return np.stack([mean, mean - half, mean + half], axis=1)


def _figures(values: np.ndarray) -> list[list[float] | None]:
    return [_figure(row) for row in values.tolist()]


def _figure(row: Sequence[float]) -> list[float] | None:
    if not math.isfinite(row[0]):
        return None
    known = row if all(map(math.isfinite, row)) else row[:1]
    return [float(f"{value:.{DIGITS}g}") for value in known]
