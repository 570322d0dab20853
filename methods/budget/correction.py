"""Whole networks correct a table of layers: a runtime fuses, shares caches and has costs of its own, which no layer shows.

A few smaller networks are cut out of the dense one and measured beside it: some have fewer channels in every layer, in some
layers are closed. What they save is a multiple of what their layers save, and these multiples are the table's `slope` and
`closing_slope`. There are two because they differ: a call that is gone saves what a narrower one still takes, and where a
runtime that runs whole networks alone has its layers priced in another, that one's calls may be dearer or cheaper.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from statistics import median, quantiles

import torch
from greenprune.methods.budget.select import nearest
from greenprune.methods.cost.calibration import Measure, Target, stopwatch
from greenprune.methods.cost.measured_cost import CostTable, Sample, TableCost
from greenprune.methods.structure import surgery
from greenprune.methods.structure.modes import evaluating
from greenprune.methods.structure.trace import Structure, trace
from torch import Tensor, nn

KEPT = (0.35, 0.5, 0.7)
"""Fractions of the dense cost, as the layers say, that the networks are cut to: of either sort."""

ROUNDS = 7
SLOPES = (0.2, 2.0)
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
        measure: as for `calibrate`.
        kept: fractions of the dense cost.
        rounds: visits to each network, each time beside the dense one; the median of the ratios counts.
    """
    measure = measure or stopwatch(example_inputs.device)
    structure = structure or trace(model, example_inputs)
    images = example_inputs[:1].expand(table.batch_size, *example_inputs.shape[1:]).contiguous()
    dense = target.network(model, images)
    cost = TableCost(structure, table.model_copy(update={"slope": 1.0, "closing_slope": 1.0}))
    samples = []
    for chosen, closed in _chosen(structure, cost, kept):
        network = surgery.remove(copy.deepcopy(model), structure, chosen)
        run = target.network(network, images)
        with evaluating(model), evaluating(network), torch.inference_mode():
            ratios = [measure(run) / max(measure(dense), 1e-12) for _ in range(rounds)]
        if (ratio := median(ratios)) > 0:
            low, _, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
            layers = float(cost(chosen.float()))
            samples.append(Sample(layers=layers, measured=ratio, closed=closed, spread=0.5 * (high - low)))
    narrower, closing = ([s for s in samples if s.closed == closed] for closed in (False, True))
    slopes = {"slope": slope_of(narrower or closing), "closing_slope": slope_of(closing or narrower)}
    return table.model_copy(update={**slopes, "samples": tuple(samples)})


def disagreement(table: CostTable) -> float:
    """How far the whole networks are from what `table` says of them, or from themselves when they are measured again: the
    largest of both, as a fraction of the dense cost."""
    return max(
        (
            max(
                abs(
                    1.0
                    - sample.measured
                    - (table.closing_slope if sample.closed else table.slope) * (1.0 - sample.layers)
                ),
                sample.spread,
            )
            for sample in table.samples
        ),
        default=0.0,
    )


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
