"""Two views of a comparison: all trainings see equally many images, or all take what dense takes.

A method that makes its network smaller while it trains takes less for the same images. In the second view it trains once
more, for as many steps as it may until it has taken what the dense network took for the recipe's epochs: all phases of a
method are shares of its steps, so they and the learning-rate schedule are stretched with it. How many steps that are follows
from its own run of the first view, the pilot. The result is from a whole training of that length, never read off a curve.
"""

from __future__ import annotations

from typing import Literal

from greenprune.bench.energy.parts import adds_up, part_of
from greenprune.bench.energy.reading import Kind, Reading, kinds_of_gpu, to_decide_by
from greenprune.bench.foreign import shortened
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

MACHINE = ("device", "gpu", "cpu")
"""What a record says of its machine that joules depend on, and that does not follow from how many runs there were at a time."""


def share_of_dense(record: Record, dense: Record, view: str) -> float | None:
    """What the training of `record` took, as a fraction of what that of `dense` took; None where it is unknown.

    Joules are of the best kind that there is: measured, else sampled, else modelled; where a GPU took part, of the best that
    it is in. They are of one machine and of the same parts of it, see `why_apart`.
    """
    if record.ledger is None or dense.ledger is None:
        return None
    if view != "joules":
        return record.ledger.forward_macs / dense.ledger.forward_macs if dense.ledger.forward_macs else None
    ours, theirs = record.energy.get("training"), dense.energy.get("training")
    if ours is None or theirs is None or why_apart(record, dense):
        return None
    kind = _best_kind(ours, theirs)
    our_j, their_j = (None, None) if kind is None else (ours.energy_j(kind), theirs.energy_j(kind))
    return our_j / their_j if our_j is not None and their_j else None


def why_apart(record: Record, dense: Record) -> str:
    """Why the joules of two trainings cannot be compared, half a sentence; empty where nothing speaks against it.

    Of a machine that one of them does not describe nobody knows that it is another.
    """
    for name in MACHINE:
        here, there = record.machine.get(name), dense.machine.get(name)
        if here is not None and there is not None and here != there:
            return f"they ran on different machines, {name}: {shortened(str(here))} and {shortened(str(there))}"
    ours, theirs = record.energy.get("training"), dense.energy.get("training")
    kind = None if ours is None or theirs is None else _best_kind(ours, theirs)
    if ours is None or theirs is None or kind is None:
        return ""
    here, there = (_parts(reading, kind) for reading in (ours, theirs))
    if here != there:
        return f"their {kind} joules are of different parts of the machine, {here or 'none'} and {there or 'none'}"
    for reading, key in ((ours, record.key), (theirs, dense.key)):
        if reading.energy_j(kind) is None:
            return f"not all {kind} joules of {key} are known"
    return ""


def _best_kind(*readings: Reading) -> Kind | None:
    """The best kind of joules that one of them has a source of, whether that could be read or not: where it was lost a worse
    kind, which is of what has no sensor, says nothing about the whole."""
    kinds = to_decide_by(kinds_of_gpu(readings))
    return next((kind for kind in kinds if any(_parts(reading, kind) for reading in readings)), None)


def _parts(reading: Reading, kind: Kind) -> str:
    """ "cpu, gpu, gpu": the parts of the machine that the joules of this kind are of, each as often as it has a source."""
    return ", ".join(sorted(part_of(s.name) for s in reading.sources if s.kind == kind and adds_up(s.name)))


def is_equal(share: float) -> bool:
    return EQUAL_FROM <= share <= 1.0


def steps_for(share: float, steps: int) -> int:
    """How many steps take what dense takes for `steps`, when as many of the method's own take `share` of it."""
    return max(1, int(AIM * steps / share))
