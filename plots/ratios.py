"""The joules of a pruned network relative to the dense one, with honest bounds."""

from __future__ import annotations

from itertools import product

from bench.energy.reading import Kind, Reading
from bench.record import Inference


def energy_ratio(measured: Inference, kind: Kind) -> tuple[float, float, float] | None:
    """Joules per image, pruned / dense, of one kind: (ratio, low, high). None when either is unknown or dense is 0 J.

    What the bounds of a counter or of power samples stand for (quantisation, sampling) is independent in the two
    windows, so the widest combination counts. The bounds of a model are those of its assumptions (watts per busy
    core, ...), which are the same on both sides: each source's low goes with its low, its high with its high.
    """
    energy, dense = measured.energy, measured.dense_energy
    ours_j, dense_j = energy.energy_j(kind), dense.energy_j(kind)
    ours_bounds, dense_bounds = energy.bounds_j(kind), dense.bounds_j(kind)
    if ours_j is None or dense_j is None or ours_bounds is None or dense_bounds is None or dense_j <= 0:
        return None
    ours_sources, dense_sources = _bounds_by_source(energy, kind), _bounds_by_source(dense, kind)
    if kind == "modelled" and ours_sources.keys() == dense_sources.keys():
        corners = [
            tuple(sum(sources[name][end] for name, end in corner) for sources in (ours_sources, dense_sources))
            for corner in product(*[[(name, 0), (name, 1)] for name in ours_sources])
        ]
    else:
        corners = [(ours_bounds[0], dense_bounds[1]), (ours_bounds[1], dense_bounds[0])]
    per_image = measured.dense_images / measured.images
    ratio = ours_j / dense_j * per_image
    ends = [ours / base * per_image if base > 0 else float("inf") for ours, base in corners if ours > 0 or base > 0]
    return ratio, min(ratio, *ends), max(ratio, *ends)


def _bounds_by_source(reading: Reading, kind: Kind) -> dict[str, tuple[float, float]]:
    """Low and high joules of every source of `kind`; the figure itself where a source gives no bound."""
    bounds = {}
    for source in reading.sources:
        if source.kind == kind and source.energy_j is not None:
            low = source.energy_j if source.low_j is None else source.low_j
            high = source.energy_j if source.high_j is None else source.high_j
            bounds[source.name] = (low, high)
    return bounds
