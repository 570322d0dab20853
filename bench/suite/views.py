"""Two views of a comparison: all trainings see equally many images, or all take what dense takes.

A method that makes its network smaller while it trains takes less for the same images. In the second view it trains once
more, for as many steps as it may until it has taken what the dense network took for the recipe's epochs: all phases of a
method are shares of its steps, so they and the learning-rate schedule are stretched with it. How many steps that are follows
from its own run of the first view, the pilot. The result is from a whole training of that length, never read off a curve.
"""

from __future__ import annotations

from typing import Literal

from greenprune.bench.energy.reading import KINDS
from greenprune.bench.records.record import Record

View = Literal["samples", "macs", "joules"]
"""What all trainings of a comparison have in common: the number of images, or what they take."""

VIEW_NAMES: dict[str, str] = {
    "samples": "equal images",
    "macs": "equal training MACs",
    "joules": "equal training energy",
}

AIM = 0.98
"""Of what dense took: a method that decides for itself when to shrink its network cannot be predicted exactly, and none
may take more."""

EQUAL_FROM = 0.96
"""A training that took this to 1 of what dense took is equal to it; it needs no second run."""


def share_of_dense(record: Record, dense: Record, view: str) -> float | None:
    """What the training of `record` took, as a fraction of what that of `dense` took; None where it is unknown.

    Joules are of the best kind that both have: measured, else sampled, else modelled.
    """
    if record.ledger is None or dense.ledger is None:
        return None
    if view != "joules":
        return record.ledger.forward_macs / dense.ledger.forward_macs if dense.ledger.forward_macs else None
    ours, theirs = record.energy.get("training"), dense.energy.get("training")
    if ours is None or theirs is None:
        return None
    for kind in KINDS:
        our_j, their_j = ours.energy_j(kind), theirs.energy_j(kind)
        if our_j is not None and their_j:
            return our_j / their_j
    return None


def is_equal(share: float) -> bool:
    return EQUAL_FROM <= share <= 1.0


def steps_for(share: float, steps: int) -> int:
    """How many steps take what dense takes for `steps`, when as many of the method's own take `share` of it."""
    return max(1, int(AIM * steps / share))
