"""Which rule of a fair comparison a finished run has broken, from the numbers of its record alone.

A run says so itself at its end, and whoever reads its record asks again: nobody believes the word "valid".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from greenprune.bench.data.names import CLASSES
from greenprune.bench.records.cost import Calibration, Cost
from greenprune.bench.records.inference import Inference, Served
from greenprune.bench.records.record import Epoch, Record
from greenprune.methods.budget.limits import MEASURED_TOLERANCE, lowest
from greenprune.methods.cost.kinds import COST_NAMES, MEASURED

MASKED_TOLERANCE = 1e-4
"""Largest |delta logit| between the masked and the removed network that counts as equal."""

SLOWER = 2.5
"""A smaller network that takes more than so many times the dense network's time computes what no counter sees. The slowest
of results/paper-cpu takes 1.12 times (at batch 1); widths that fit no vector make honest ones up to 1.5 times as slow."""

AGREED = 0.05
"""Whole networks that are further than this from what a calibration says of them, as a fraction of the dense cost, were
measured on a machine that was busy."""

AT_CHANCE = 0.98
"""From this fraction of the loss of guessing on, a network guesses."""

DIVERGED = 1.2
"""An epoch whose loss is above this multiple of that of guessing has diverged: no initial network is as bad over an epoch."""

FORGOTTEN = 0.9
"""A loss below this fraction of that of guessing shows that something had been learned."""


def broken_rule(record: Record) -> str | None:
    """The first rule that a finished run has broken, or None.

    Rules whose numbers are not in the record, because the network itself is needed for them, are not asked about.
    """
    assert record.cost is not None  # it is done
    pruned = record.budget < 1
    return (
        (broken_budget(record.cost, kept_interval(record)) if pruned else None)
        or unequal(record.masked_max_abs_diff)
        or (slower(record) if pruned else None)
        or (guessing(record.epochs, CLASSES.get(record.pair[0])) if record.task == "classification" else None)
    )


def measured_bounds(budget: float) -> tuple[float, float]:
    """Between which fractions of the dense time or energy a network must end that may keep `budget` of it."""
    return budget * (1.0 - MEASURED_TOLERANCE), budget * (1.0 + MEASURED_TOLERANCE)


def bounds_of(cost: Cost) -> tuple[float, float]:
    """The same of a run. Where the units that it chose were to cost less than the tolerance allows for, because none came
    nearer or because what does would have hurt more, they may end as far below that."""
    low, high = measured_bounds(cost.budget)
    if cost.predicted is not None and cost.predicted < cost.budget - cost.tolerance:
        low = min(low, measured_bounds(cost.predicted)[0])
    return low, high


def deciding(
    inference: Sequence[Inference], served: Sequence[Served], calibration: Calibration | None
) -> Inference | None:
    """The comparison with dense that says whether a budget of time or energy was kept: in the calibration's runtime, at its
    batch size."""
    if calibration is None:
        return None
    if calibration.runtime != "eager":
        inference = [
            part
            for entry in served
            if (entry.runtime, entry.precision) == (calibration.runtime, "float32")
            for part in entry.inference
        ]
    return next((part for part in inference if part.batch_size == calibration.batch_size), None)


def kept_interval(record: Record) -> tuple[float, float] | None:
    """The 95 % interval of the time or energy that was kept, as a fraction of dense; None where the budget counts neither."""
    if record.cost is None or record.cost.kind not in MEASURED:
        return None
    part = deciding(record.inference, record.served, record.cost.calibration)
    if part is None:
        return None
    if record.cost.kind == "latency":
        return part.latency_ratio_low, part.latency_ratio_high
    assert record.cost.calibration is not None
    kind = record.cost.calibration.energy_kind
    found = None if kind is None else part.energy_ratio.get(kind)
    return None if found is None else found[1:]


def broken_budget(cost: Cost, interval: tuple[float, float] | None = None) -> str | None:
    """How the achieved cost misses the budget, or None.

    Args:
        interval: of a measured cost, its 95 % interval. What may be inside the bounds is not said to be outside of them.
    """
    what = COST_NAMES[cost.kind]
    if cost.kept is None:
        return f"the {what} could not be compared with the dense network's"
    low, high = cost.budget - cost.tolerance, cost.budget
    least = most = cost.kept
    if cost.connections is not None:
        what = "connections"
    elif cost.sample_macs is not None:
        what = "MACs on average over test images"
    elif cost.kind in MEASURED:  # a measurement has an error, to both sides
        low, high = bounds_of(cost)
        least, most = interval or (least, most)
    else:
        low = lowest(cost.budget, cost.tolerance, coarse=cost.round_to > 1)
        if cost.nearest_below is not None:
            low = min(low, lowest(cost.nearest_below, 0.0, coarse=True))
    if low <= most and least <= high:
        return None
    measured = f" [{least:.4f}, {most:.4f}]" if most > least else ""
    return f"kept {cost.kept:.4f}{measured} of the dense {what}, outside [{low:g}, {high:g}]"


def uncertain_budget(record: Record) -> str | None:
    """That the measured cost lies outside of the bounds, while its interval does not, or None."""
    interval = kept_interval(record)
    if interval is None or record.budget >= 1 or record.cost is None or broken_budget(record.cost, interval):
        return None
    if broken_budget(record.cost) is None:
        return None
    low, high = bounds_of(record.cost)
    return (
        f"kept {record.cost.kept:.3f} [{interval[0]:.3f}, {interval[1]:.3f}] of the dense {COST_NAMES[record.cost.kind]}: "
        f"whether that is within [{low:g}, {high:g}] is not known"
    )


def unequal(masked_max_abs_diff: float | None) -> str | None:
    """That the removed network is not the masked one, or None."""
    if masked_max_abs_diff is None or masked_max_abs_diff <= MASKED_TOLERANCE:
        return None
    return f"masked and removed network differ by {masked_max_abs_diff:.2e} in their outputs, more than {MASKED_TOLERANCE:g}"


def slower(record: Record) -> str | None:
    """That time says that the counted cost is not what is computed, or None."""
    assert record.cost is not None
    if record.cost.sample_macs is not None or not record.inference:  # gathering single images takes time of its own
        return None
    least = min(measured.latency_ratio_low for measured in record.inference)
    if least <= SLOWER or record.cost.kept_macs >= 1:
        return None
    return (
        f"takes at least {least:.1f} times the dense network's time at every batch size with {record.cost.kept_macs:.4f} of "
        "its MACs: it computes what the counter does not see"
    )


def guessing(epochs: tuple[Epoch, ...], classes: int | None) -> str | None:
    """That the training diverged and ended with a network that guesses, or None."""
    if classes is None or not epochs:
        return None
    chance, losses = math.log(classes), [epoch.loss for epoch in epochs]
    if losses[-1] < AT_CHANCE * chance:
        return None
    worst, best = max(losses), min(losses)
    if worst <= DIVERGED * chance and best >= FORGOTTEN * chance:
        return None
    before = f"after one of {worst:.4g}" if worst > DIVERGED * chance else f"after one of {best:.4g} before"
    return (
        f"the training diverged: its last epoch has a loss of {losses[-1]:.4g} {before}, and guessing has {chance:.4g}"
    )
