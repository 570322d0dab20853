"""Whole networks correct a table of layers: a runtime fuses, shares caches and has costs of its own, which no layer shows.

A few smaller networks are cut out of the dense one and measured beside it: some have fewer channels in every layer, in some
layers are closed. What they save is a multiple of what their layers save, and these multiples are the table's `slope` and
`closing_slope`. There are two because they differ: a call that is gone saves what a narrower one still takes, and where a
runtime that runs whole networks alone has its layers priced in another, that one's calls may be dearer or cheaper.

Where closed layers can leave something (`structure.remnant`), networks in which they do say what it takes there: a multiple of
what it takes alone, `left_scales`. A runtime fuses small operations best of all.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from statistics import median, quantiles

import torch
from greenprune.methods.budget.select import nearest
from greenprune.methods.cost.calibration import Measure, Target, stopwatch
from greenprune.methods.cost.measured_cost import CostTable, Sample, TableCost, is_priced
from greenprune.methods.structure import surgery
from greenprune.methods.structure.modes import evaluating
from greenprune.methods.structure.remnant import TAPS, RemnantKind, with_remnants
from greenprune.methods.structure.trace import trace
from greenprune.methods.structure.units import Structure
from torch import Tensor, nn

KEPT = (0.35, 0.5, 0.7)
"""Fractions of the dense cost, as the layers say, that the networks are cut to: of either sort."""

ROUNDS = 7
FILLED_S = 0.1
"""Of runs at each visit to a network. The first few, right after another network, wait for what is not in the caches, which
counts most where little is computed."""

REMNANTS_KEPT = 0.5
"""The same of the networks whose closed layers leave something."""

SLOPES = (0.2, 2.0)
SCALES = (0.0, 2.0)
"""Outside of these the machine was too busy for the measurement to say anything."""


def corrected(
    model: nn.Module,
    example_inputs: Tensor,
    table: CostTable,
    *,
    target: Target,
    measure: Measure | None = None,
    kept: Sequence[float] = KEPT,
    rounds: int = ROUNDS,
    structure: Structure | None = None,
) -> CostTable:
    """`table` with the slopes that whole networks show.

    Args:
        model: the dense network, which `table` is of; left as it was.
        example_inputs: (B, ...) float, as for `calibrate`.
        target: that the table was measured in.
        measure: as for `calibrate`; default the time of as many runs as fill `FILLED_S`.
        kept: fractions of the dense cost.
        rounds: visits to each network, each time beside the dense one; the median of the ratios counts.
    """
    measure = measure or stopwatch(example_inputs.device, filled_s=FILLED_S)
    structure = structure or trace(model, example_inputs)
    images = example_inputs[:1].expand(table.batch_size, *example_inputs.shape[1:]).contiguous()
    dense = target.network(model, images)

    def ratio_of(structure: Structure, chosen: Tensor) -> tuple[float, float]:
        """What the network that keeps these units takes beside the dense one, and half of the distance of its quartiles."""
        network = surgery.remove(copy.deepcopy(model), structure, chosen)
        run = target.network(network, images)
        with evaluating(model), evaluating(network), torch.inference_mode():
            ratios = [measure(run) / max(measure(dense), 1e-12) for _ in range(rounds)]
        low, _, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        return median(ratios), 0.5 * (high - low)

    cost = TableCost(structure, table.model_copy(update={"slope": 1.0, "closing_slope": 1.0}))
    samples = []
    for chosen, closed in _chosen(structure, cost, kept):
        ratio, spread = ratio_of(structure, chosen)
        if ratio > 0:
            layers = float(cost(chosen.float()))
            samples.append(Sample(layers=layers, measured=ratio, closed=closed, spread=spread))
    narrower, closing = ([s for s in samples if s.closed == closed] for closed in (False, True))
    slopes = {"slope": slope_of(narrower or closing), "closing_slope": slope_of(closing or narrower)}
    table = table.model_copy(update=slopes)
    scales: dict[RemnantKind, float] = {}
    for kind in TAPS:
        leaving = _leaving(model, structure, table, kind)
        if leaving is None:
            continue
        left, chosen = leaving
        ratio, spread = ratio_of(left, chosen)
        if ratio > 0:
            nothing, all_of_it = (
                float(TableCost(left, table.model_copy(update={"left_scales": {kind: scale}}))(chosen.float()))
                for scale in (0.0, 1.0)
            )
            scale = (ratio - nothing) / max(all_of_it - nothing, 1e-12)
            scales[kind] = min(max(scale, SCALES[0]), SCALES[1])
            samples.append(Sample(layers=all_of_it, measured=ratio, closed=True, left=kind, spread=spread))
    return table.model_copy(update={"left_scales": scales, "samples": tuple(samples)})


def _leaving(
    model: nn.Module, structure: Structure, table: CostTable, kind: RemnantKind
) -> tuple[Structure, Tensor] | None:
    """A network in which closed layers leave this, down to `REMNANTS_KEPT` of the cost: its structure, and what it keeps,
    (U,) bool. None where no layer can leave it, or the table does not know what that takes."""
    could = with_remnants(structure, model, kind)
    priced = {b.unit: kind for b in could.branches if b.remnant is not None and is_priced(b.remnant, table)}
    if not priced:
        return None
    left = with_remnants(structure, model, priced)
    removable = torch.zeros(structure.units, dtype=torch.bool)
    removable[list(priced)] = True
    drawn = torch.rand(structure.units, generator=torch.Generator().manual_seed(0))
    chosen, _, _ = nearest(left, drawn, REMNANTS_KEPT, 0.05, removable, TableCost(left, table))
    return None if bool(chosen.all()) else (left, chosen)


def disagreement(table: CostTable) -> float:
    """How far the whole networks are from what `table` says of them, or from themselves when they are measured again: the
    largest of both, as a fraction of the dense cost."""

    def off(sample: Sample) -> float:
        if sample.left is not None:  # one network, one scale
            return sample.spread
        slope = table.closing_slope if sample.closed else table.slope
        return max(abs(1.0 - sample.measured - slope * (1.0 - sample.layers)), sample.spread)

    return max(map(off, table.samples), default=0.0)


def slope_of(samples: Sequence[Sample]) -> float:
    """Least squares of (1 - measured) = slope x (1 - layers): the dense network costs 1 either way."""
    weight = sum((1.0 - s.layers) ** 2 for s in samples)
    if not weight:
        return 1.0
    slope = sum((1.0 - s.layers) * (1.0 - s.measured) for s in samples) / weight
    return min(max(slope, SLOPES[0]), SLOPES[1])


def _chosen(structure: Structure, cost: TableCost, kept: Sequence[float]) -> list[tuple[Tensor, bool]]:
    """What networks of about these costs keep, (U,) bool each, without one twice; and whether layers are closed in it."""
    even = torch.ones(structure.units)
    for group in structure.groups:
        even[group.units] = 1.0 - (torch.arange(group.width) + 0.5) / group.width
    channels = structure.channel_units
    found: list[tuple[Tensor, bool]] = []
    for i, keep in enumerate(kept):
        drawn = torch.rand(structure.units, generator=torch.Generator().manual_seed(i))
        for scores, removable in ((even, channels), (drawn, ~channels)):
            chosen, _, _ = nearest(structure, scores, keep, 0.05, removable, cost)
            if not bool(chosen.all()) and not any(torch.equal(chosen, other) for other, _ in found):
                found.append((chosen, bool((~chosen & ~channels).any())))
    return found
