"""What lies behind a mean or a threshold: the cost of single images, and the scales that slimming ranks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import matplotlib as mpl
import numpy as np
from greenprune.bench.records.record import Record
from greenprune.plots.figures.canvas import comparison_of_one, new_figure
from greenprune.plots.figures.gates import first_seeds
from greenprune.plots.figures.style import RC, looks
from greenprune.plots.frame.frame import Results
from matplotlib.figure import Figure

MOST_PANELS = 6


@dataclass(frozen=True)
class Histogram:
    """`counts` in the bins between `edges` of one run; `mark` is a value to point at."""

    name: str
    method: str
    edges: np.ndarray
    counts: np.ndarray
    mark: float | None = None


def _name(record: Record) -> str:
    return f"{record.method} {record.budget * 100:g} %, seed {record.seed}"


def _image_costs(results: Results) -> list[Histogram]:
    found = []
    for record in first_seeds(results):
        if record.cost is not None and (sampled := record.cost.sample_macs) is not None:
            edges, counts = np.asarray(sampled.edges) * 100, np.asarray(sampled.counts)
            found.append(Histogram(_name(record), record.method, edges, counts, sampled.mean * 100))
    return found[:MOST_PANELS]


@lru_cache(maxsize=4)  # whether there are any, the figure and its words
def _scales(results: Results) -> list[Histogram]:
    found: list[Histogram] = []
    for record in first_seeds(results):
        if "scale_histogram" not in record.history or len(found) == MOST_PANELS:
            continue
        stored = results.whole(record).history.get("scale_histogram")
        if not isinstance(stored, dict):
            continue
        edges, counts = np.asarray(stored.get("edges", [])), np.asarray(stored.get("counts", []))
        if edges.ndim == counts.ndim == 1 and len(edges) == len(counts) + 1 and counts.sum() > 0:
            found.append(Histogram(_name(record), record.method, edges.astype(float), counts.astype(float)))
    return found


def has_image_costs(results: Results) -> bool:
    return bool(_image_costs(results))


def has_scales(results: Results) -> bool:
    return bool(_scales(results))


def _draw(results: Results, found: list[Histogram], what: str, of: str) -> Figure:
    comparison_of_one(results)
    look = looks(results.runs)
    columns = max(1, len(found))
    figure, panels = new_figure(max(6.0, 1.0 + 3.6 * columns), 4.2, columns=columns)
    for number, (axes, one) in enumerate(zip(panels, found, strict=False)):
        axes.bar(
            one.edges[:-1],
            one.counts / one.counts.sum() * 100,
            np.diff(one.edges),
            align="edge",
            color=look[one.method].color,
        )
        if one.mark is not None:
            axes.axvline(one.mark, color="0.3", linestyle="--", linewidth=1.2)
            axes.annotate(
                f" mean {one.mark:.0f}", (one.mark, 0.97), xycoords=("data", "axes fraction"), va="top", fontsize=11
            )
        axes.set_title(one.name)
        axes.set_xlabel(what)
        axes.set_xlim(left=0)
        axes.margins(y=0.18)  # room for the mark
        axes.set_ylabel(f"Share of the {of}, %" if number == 0 else "")
    return figure


@mpl.rc_context(RC)
def cost_per_image(results: Results) -> Figure:
    """A histogram per dynamic run (first seed of each budget): MACs that single test images executed, gates included."""
    return _draw(results, _image_costs(results), "MACs of an image, % of dense", "images")


@mpl.rc_context(RC)
def scales(results: Results) -> Figure:
    """A histogram per slimming run (first seed of each budget): |γ| of the removable channels when they were ranked."""
    return _draw(results, _scales(results), "Scale |γ| of a channel", "channels")


def image_costs_in_words(results: Results) -> str:
    sentences = []
    for one in _image_costs(results):
        low, median, high = (_quantile(one, q) for q in (0.05, 0.5, 0.95))
        sentences.append(
            f"{one.name}: half of the images cost at most about {median:.0f} % of the dense MACs, "
            f"nine in ten between {low:.0f} and {high:.0f} %"
        )
    return f"Histograms of the MACs of single images. {'. '.join(sentences)}."


def scales_in_words(results: Results) -> str:
    sentences = []
    for one in _scales(results):
        small = one.counts[one.edges[1:] <= one.edges[-1] / 10].sum() / one.counts.sum()
        sentences.append(
            f"{one.name}: {small * 100:.0f} % of the channels have a scale below a tenth of the largest, {one.edges[-1]:.3g}; "
            f"the median is about {_quantile(one, 0.5):.2g}"
        )
    return f"Histograms of the scales of batch norm when the channels were ranked. {'. '.join(sentences)}."


def _quantile(one: Histogram, share: float) -> float:
    """The value below which `share` of the counts lie, linear within a bin."""
    total = np.concatenate([[0.0], np.cumsum(one.counts)]) / one.counts.sum()
    return float(np.interp(share, total, one.edges))
