"""Which runs stand in which view of a comparison, see `greenprune.bench.suite.views`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from greenprune.bench.records.record import Record
from greenprune.bench.suite.views import is_equal, share_of_dense

Group = tuple[str, str, str, str, str]  # folder, suite, data set, network, machine
Found = tuple[str, Record, Path]  # the results folder as it was given, the record, the folder it lies in


@dataclass(frozen=True)
class Shown:
    """A record in one view; it may stand in several."""

    folder: str
    record: Record
    place: Path
    view: str


def view_of(record: Record) -> str:
    """The view that a run was made for; records from before there were several are of equal images."""
    return str(record.settings.get("view", "samples"))


def in_views(done: Sequence[Found], machine_of: Callable[[dict[str, Any]], str]) -> list[Shown]:
    """Every run in its own view; and in other views that its suite has, dense and what is equal to dense as it is."""
    shown = [Shown(folder, record, place, view_of(record)) for folder, record, place in done]
    others: dict[Group, dict[str, set[Any]]] = {}  # views beside the first, and what has a run of its own in them
    for run in shown:
        if run.view != "samples":
            others.setdefault(_group(run, machine_of), {}).setdefault(run.view, set()).add(_which(run.record))
    for run in [run for run in shown if run.view == "samples"]:
        for view, own in others.get(_group(run, machine_of), {}).items():
            if _which(run.record) in own:  # made when dense or this run was another one
                continue
            same = [o.record for o in shown if _is_reference(o, run, machine_of)]
            share = share_of_dense(run.record, same[0], view) if same else None
            if run.record.method_name == "dense" or (run.record.valid and share is not None and is_equal(share)):
                shown.append(Shown(run.folder, run.record, run.place, view))
    return shown


def _group(run: Shown, machine_of: Callable[[dict[str, Any]], str]) -> Group:
    return run.folder, run.record.suite, *run.record.pair, machine_of(run.record.machine)


def _which(record: Record) -> tuple[str, float, int]:
    return record.method, record.budget, record.seed


def _is_reference(other: Shown, run: Shown, machine_of: Callable[[dict[str, Any]], str]) -> bool:
    return (
        other.record.method_name == "dense"
        and other.view == "samples"
        and other.record.seed == run.record.seed
        and _group(other, machine_of) == _group(run, machine_of)
    )


def name_of(row: Any) -> str:
    """How to call the comparison that a run is in. `row`: of `Results.runs`."""
    return str(row["comparison"])
