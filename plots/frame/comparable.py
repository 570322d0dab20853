"""Whether runs of two results folders may be compared: only where data, network and recipe are the same.

The code of a method may differ, since what that changed is what is asked; so may the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from greenprune.bench.errors import UserError
from greenprune.bench.records.identity import Identity, differences, differing
from greenprune.bench.records.record import Record
from greenprune.bench.text import listed
from greenprune.plots.frame.frame import Results

MAY_DIFFER = ("method", "measurement", "device", "steps")
"""Settings: the method's options are told apart; a run of another view has the steps that its pilot allowed."""

OF_A_RUN = ("budget", "seed", "cost", "budget_batch_size", "budget_runtime", "round_to", "view", "allowance")
"""Settings in which runs of one comparison differ."""

OF_A_METHOD = ("measurement", "device", "budget", "seed", "steps", "view", "allowance")
"""Settings in which runs of one method differ, whose means a row shows: options, and what a budget counts, are the same."""

SHOWN = 3


def refuse_incomparable(base: Results, new: Results) -> list[str]:
    """See that runs of the same name are of the same experiment.

    Returns:
        What a reader has to know of them, a sentence each without its full stop.

    Raises:
        UserError: one is not; the sentence names it and what differs.
    """
    bad: list[str] = []
    notes: dict[str, None] = {}
    for ours, theirs in _pairs(base, new):
        other = differences(_settings(ours), _settings(theirs))
        other += _known(ours.identity, theirs.identity, ("data", "network"))
        if ours.score and theirs.score:  # figures of another unit or direction can't be taken from each other
            other += differences({"score": ours.score.model_dump()}, {"score": theirs.score.model_dump()})
        if other:
            bad.append(f"{theirs.suite}/{theirs.key} ({'; '.join(other[:SHOWN])})")
        for note in _notes(ours, theirs):
            notes[note] = None
    if bad:
        more = f", and {len(bad) - 1} more of their runs" if len(bad) > 1 else ""
        raise UserError(
            f"BASE and NEW are not of one experiment: {bad[0]}{more}; allowed: results of the same data, network, recipe "
            "and score"
        )
    return list(notes)


def _notes(ours: Record, theirs: Record) -> Iterator[str]:
    options = differences(ours.settings.get("method", {}), theirs.settings.get("method", {}))
    if options:
        yield f"{theirs.method} has other options in NEW ({'; '.join(options[:SHOWN])})"
    for line in _known(ours.identity, theirs.identity, ("precision", "torch")):
        yield f"the two differ in {line}"


def _known(ours: Identity, theirs: Identity, names: tuple[str, ...]) -> tuple[str, ...]:
    """Differences in what both have recorded."""
    both = tuple(name for name in names if getattr(ours, name) is not None and getattr(theirs, name) is not None)
    return differing(ours, theirs, both)


def _settings(record: Record) -> dict[str, Any]:
    return {name: value for name, value in record.settings.items() if name not in MAY_DIFFER}


def _pairs(base: Results, new: Results) -> Iterator[tuple[Record, Record]]:
    """Records of both sides that `compare` would take together."""
    ours = {_name(record): record for record in base.records}
    theirs = {_name(record): record for record in new.records}
    for name, record in ours.items():
        if name in theirs:
            yield record, theirs[name]


def _name(record: Record) -> tuple[object, ...]:
    view = record.settings.get("view", "samples")
    return (record.suite, record.pair, record.method, record.budget, record.seed, view)


def mixed(records: tuple[Record, ...]) -> str | None:
    """What differs among runs that are shown as one comparison, as a sentence without its full stop; None: nothing."""
    first = records[0]
    of_label: dict[str, Record] = {}
    for record in records:
        alike = of_label.setdefault(record.method, record)
        for one, may_differ in ((first, (*MAY_DIFFER, *OF_A_RUN)), (alike, OF_A_METHOD)):
            kept = {name for name in one.settings if name not in may_differ}
            ours, theirs = ({name: r.settings.get(name) for name in kept} for r in (one, record))
            other = differences(ours, theirs) + _known(one.identity, record.identity, ("data", "network"))
            if other:
                return f"{one.key} and {record.key} are of different experiments: {listed(list(other[:SHOWN]))}"
    return None
