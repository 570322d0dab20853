"""What the gates agreed on over time, and the networks that came out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import matplotlib as mpl
import numpy as np
from greenprune.bench.records.record import Record
from greenprune.bench.text import plural
from greenprune.plots.figures.canvas import comparison_of_one, new_figure
from greenprune.plots.figures.style import RC, looks
from greenprune.plots.frame.frame import Results
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

MOST_STRIPS = 10
MOST_PANELS = 3
NAMED_LAYERS = 40  # more names than that can't be read along a page
GAP = 0.012  # between two groups of a heat map, of all its rows

CLOSED_TO_OPEN = LinearSegmentedColormap.from_list("closed_to_open", ["#0B2545", "#F7F7F7", "#B8500B"])
"""0 is dark blue, undecided is white, 1 is orange: apart in print and for the colour-blind, by lightness at one end."""


@dataclass(frozen=True)
class Consensus:
    """The gates of one run. `values` has a row for each gate and a column for each of `steps`."""

    name: str
    steps: list[int]
    groups: list[tuple[str, int]]  # name and number of gates, from the top down
    values: np.ndarray


def consensus_of(record: Record) -> Consensus | None:
    """The consensus from a record's `history`; None where it holds none, or one of another shape.

    Channels are sorted by what became of them, the surest at the top, so that the picture shows shares, not numbers.
    """
    steps = record.history.get("steps")
    if not isinstance(steps, list) or len(steps) < 2:
        return None
    groups: list[tuple[str, int]] = []
    parts: list[np.ndarray] = []
    for part, unit in (("channels", "channels"), ("layers", "layer")):
        found = record.history.get(part) or {}
        if not isinstance(found, dict):  # a method may keep what it likes there
            return None
        for name, rows in found.items():
            try:
                values = np.asarray(rows, dtype=float).T
            except (TypeError, ValueError):
                return None
            if values.ndim != 2 or values.shape[1] != len(steps):
                return None
            parts.append(values[np.argsort(-values[:, -1], kind="stable")])
            groups.append((f"{name} ({unit})" if part == "layers" else name, len(values)))
    if not parts:
        return None
    budget = f"{record.budget * 100:g} %"
    return Consensus(f"{record.method} {budget}, seed {record.seed}", steps, groups, np.concatenate(parts))


def first_seeds(results: Results) -> list[Record]:
    """One valid record per method and budget, that of the smallest seed, by method and budget; dense first."""
    found: dict[tuple[bool, str, float], Record] = {}
    for record in sorted(results.records, key=lambda record: record.seed):
        if record.valid:
            found.setdefault((record.method_name != "dense", record.method, record.budget), record)
    return [found[key] for key in sorted(found)]


@lru_cache(maxsize=4)  # whether there are any, the figure and its words
def _consensuses(results: Results) -> list[Consensus]:
    with_gates = (results.whole(record) for record in first_seeds(results) if "steps" in record.history)
    found = (consensus for record in with_gates if (consensus := consensus_of(record)) is not None)
    return list(islice(found, MOST_PANELS))


def has_consensus(results: Results) -> bool:
    return bool(_consensuses(results))


@mpl.rc_context(RC)
def gate_consensus(results: Results) -> Figure:
    """A heat map per gated run (first seed of each budget): a row for each gate, time to the right."""
    comparison_of_one(results)
    found = _consensuses(results)
    layers = max((sum("(layer)" not in name for name, _ in c.groups) for c in found), default=1)
    height_in = min(13.0, max(5.0, 1.6 + 0.52 * layers))
    figure, panels = new_figure(4.2 + 3.2 * max(1, len(found)), height_in, columns=max(1, len(found)))
    image = None
    for number, (axes, consensus) in enumerate(zip(panels, found, strict=False)):
        image = _heat_map(axes, consensus, named=number == 0)
    if image is not None:
        bar = figure.colorbar(image, ax=panels, shrink=0.6, aspect=30, ticks=[0, 0.5, 1])
        bar.ax.set_yticklabels(["0: closed", "0.5: undecided", "1: open"])
    return figure


def _heat_map(axes: Axes, consensus: Consensus, *, named: bool) -> Any:
    """Every group gets the same height: a layer's own gate is as interesting as its 64 channels."""
    channels = [(name, count) for name, count in consensus.groups if "(layer)" not in name]
    heights = [1.0] * len(channels) + [0.55] * (len(consensus.groups) - len(channels))
    edges = np.concatenate([[0.0], np.cumsum(heights)])
    times = np.asarray([0.0, *consensus.steps], dtype=float)
    gap = GAP * edges[-1]
    image, first = None, 0
    for top, bottom, (_, count) in zip(edges, edges[1:], consensus.groups, strict=False):
        rows = np.linspace(top, bottom - gap, count + 1)
        values = consensus.values[first : first + count]
        image = axes.pcolormesh(times, rows, values, vmin=0, vmax=1, cmap=CLOSED_TO_OPEN, rasterized=True)
        first += count
    labels = [name for name, _ in consensus.groups]
    if len(labels) <= NAMED_LAYERS:
        axes.set_yticks((edges[:-1] + edges[1:] - gap) / 2, labels if named else [""] * len(labels), fontsize=10)
    else:
        axes.set_yticks([])
        axes.set_ylabel(f"{plural(len(labels), 'group')} of gates, first layer at the top" if named else "")
    axes.set_ylim(edges[-1] - gap, 0)
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Optimizer step")
    axes.set_title(consensus.name)
    return image


def consensus_in_words(results: Results) -> str:
    sentences = []
    for consensus in _consensuses(results):
        end = consensus.values[:, -1]
        opened, closed = int((end > 0.9).sum()), int((end < 0.1).sum())
        rest = len(end) - opened - closed
        sentences.append(
            f"{consensus.name}: of {plural(len(end), 'gate')}, {opened} end above 0.9, {closed} below 0.1 and {rest} between"
        )
    return f"Consensus of the gates over the search. {'. '.join(sentences)}."


@lru_cache(maxsize=4)
def _strips(results: Results) -> list[Record]:
    """The networks to draw: every budget where there is room, else the smallest of each method."""
    found = [record for record in first_seeds(results) if record.cost and record.cost.widths_dense]
    if len(found) > MOST_STRIPS:
        smallest: dict[str, Record] = {}
        for record in found:
            smallest.setdefault(record.method, record)
        found = list(smallest.values())
    return [results.whole(record) if "layers" in record.history else record for record in found[:MOST_STRIPS]]


def has_architecture(results: Results) -> bool:
    return bool(_strips(results))


@mpl.rc_context(RC)
def final_architecture(results: Results) -> Figure:
    """A strip for each network: its layers from left to right, kept channels filled within the dense width.

    Hatched: what a closed layer left, a depthwise or 1x1 convolution.
    """
    comparison_of_one(results)
    strips, look = _strips(results), looks(results.runs)
    figure, panels = new_figure(11.5, 1.9 + 0.95 * max(1, len(strips)), rows=max(1, len(strips)))
    for axes, record in zip(panels, strips, strict=False):
        _strip(axes, record, look[record.method].color)
    layers = list(strips[0].cost.widths_dense) if strips and strips[0].cost else []
    below = panels[-1]
    if len(layers) <= NAMED_LAYERS:
        below.set_xticks(range(len(layers)), layers, rotation=90, fontsize=10)
    below.set_xlabel("Layer, from input to output" + ("" if len(layers) <= NAMED_LAYERS else f" ({len(layers)})"))
    return figure


def _left_of_closed_layers(record: Record) -> set[str]:
    """Layers of residual branches that closed and are there all the same: thin ones, see methods/structure/remnant.py."""
    assert record.cost is not None
    kept, dense = record.cost.widths, record.cost.widths_dense
    left: set[str] = set()
    for branch, consensus in (record.history.get("layers") or {}).items():
        inside = {name for name in dense if name.startswith(f"{branch}.")}
        if consensus and consensus[-1][0] < 0.5 and all(kept.get(name, 0) for name in inside):
            left |= inside
    return left


def _strip(axes: Axes, record: Record, color: str) -> None:
    assert record.cost is not None
    kept, dense = record.cost.widths, record.cost.widths_dense
    widest, left = max(dense.values(), default=1), _left_of_closed_layers(record)
    for x, (name, full) in enumerate(dense.items()):
        # The square root keeps a first layer of 16 channels visible beside a last one of 512.
        outer, inner = ((width / widest) ** 0.5 for width in (full, kept.get(name, 0)))
        axes.add_patch(Rectangle((x - 0.36, -outer), 0.72, 2 * outer, facecolor="white", edgecolor="#9A9A9A"))
        if name in left:
            hatched: dict[str, Any] = {"facecolor": "white", "edgecolor": color, "hatch": "////", "linewidth": 0.8}
            axes.add_patch(Rectangle((x - 0.36, -inner), 0.72, 2 * inner, **hatched))
        elif inner:
            axes.add_patch(Rectangle((x - 0.36, -inner), 0.72, 2 * inner, facecolor=color, linewidth=0))
        else:
            axes.plot([x], [0], marker="x", color="#B00020", markersize=9, markeredgewidth=2.2, label="removed")
        if len(dense) <= NAMED_LAYERS:
            style: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 9.5, "color": "#333333"}
            axes.text(x, 1.06, str(kept.get(name, 0)), **style)
    axes.set_xlim(-0.7, len(dense) - 0.3)
    axes.set_ylim(-1.1, 1.6)
    axes.set_xticks([])
    budget = "" if record.method_name == "dense" else f"\n{record.budget * 100:g} %"
    axes.set_yticks([0], [f"{record.method}{budget}"])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def architecture_in_words(results: Results) -> str:
    sentences = []
    for record in _strips(results):
        assert record.cost is not None
        kept, dense = record.cost.widths, record.cost.widths_dense
        removed = [name for name in dense if not kept.get(name, 0)]
        left = [name for name in dense if name in _left_of_closed_layers(record)]
        narrowed = [f"{name} {kept[name]} of {dense[name]}" for name in dense if 0 < kept.get(name, 0) < dense[name]]
        budget = "" if record.method_name == "dense" else f" {record.budget * 100:g} %"
        said = f"removed: {', '.join(removed) or 'no layer'}; narrowed: {', '.join(narrowed) or 'none'}"
        said += f"; left thin: {', '.join(left)}" if left else ""
        sentences.append(f"{record.method}{budget}, seed {record.seed}: {said}")
    return f"Kept channels of each layer. {'. '.join(sentences)}."
