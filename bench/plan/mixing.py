"""One results folder, one experiment: what a suite would be mixed with is found before anything is spent.

Every finished record of the folder is looked at, whether this start would run it again or not: a run of the same key must
agree in everything, one of the same method in all but budget and seed, and any other in data, network and recipe.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from greenprune.bench.data.data import Dataset, content_hash
from greenprune.bench.errors import UserError
from greenprune.bench.plan.plan import Run, comparable, completed
from greenprune.bench.records.folder import LOCK_FILE
from greenprune.bench.records.identity import (
    IDENTITY_FILE,
    MADE_OF,
    NOTED,
    Begun,
    Identity,
    differences,
    differing,
    read_begun,
)
from greenprune.bench.records.load import read_record
from greenprune.bench.records.lock import is_held
from greenprune.bench.records.record import RECORD_FILE, Record
from greenprune.bench.records.stored import read_json
from greenprune.bench.suite.settings import Settings
from greenprune.bench.training.identity import identity_of

OF_A_RUN = ("budget", "seed", "steps", "view", "allowance")
"""Settings in which runs of one method may differ."""

OF_A_METHOD = ("method", "cost", "budget_batch_size", "budget_runtime", "round_to", *OF_A_RUN)
"""And those of different methods."""


@dataclass
class Identities:
    """What the runs of a suite are made of, as it is when the suite is started.

    Attributes:
        data: by name, with as many training images as the suite asks for.
        elsewhere: whether runs are done on other machines than this one.
    """

    data: Mapping[str, Dataset]
    elsewhere: bool = False
    _contents: dict[str, str] = field(default_factory=dict)

    def unknown(self, settings: Settings) -> frozenset[str]:
        """Parts that only the machine of the run can tell."""
        if not self.elsewhere:
            return frozenset()
        return frozenset((*NOTED, *(("precision",) if settings.training.precision == "auto" else ())))

    def of(self, settings: Settings) -> Identity:
        """What is known of it here. Raises UserError, MethodError: the network or the method cannot be made."""
        name = settings.dataset
        if name not in self._contents:
            self._contents[name] = content_hash(self.data[name])
        unknown = self.unknown(settings)
        here = settings.model_copy(update={"device": "cpu"}) if self.elsewhere else settings  # there may be no GPU here
        return identity_of(here, self.data[name], self._contents[name]).model_copy(update=dict.fromkeys(unknown))


def refuse_mixing(folder: Path, runs: Sequence[Run], identities: Identities) -> list[str]:
    """See that the finished records in `folder` are of the experiment that `runs` are.

    Args:
        runs: all of the suite, those too that this start leaves out.

    Returns:
        What a reader has to know of those that are, a sentence each without its full stop.

    Raises:
        UserError: one is not, or cannot be read; the sentence names it and what differs.
    """
    notes: dict[str, list[str]] = {}
    for path in sorted(folder.glob(f"*/{RECORD_FILE}")):
        record = read_record(path)
        if record.status != "done":
            continue
        key = path.parent.name
        other = difference(record, key, runs, identities)
        if other:
            raise UserError(
                f"{folder / key}: is of another experiment ({'; '.join(other[:3])}); "
                "keep it and choose another folder with --out, or delete it to run it again"
            )
        for note in _noted(record, runs, identities):
            notes.setdefault(note, []).append(key)
    return [f"{len(keys)} of the records in {folder} are from elsewhere ({note})" for note, keys in notes.items()]


def refuse_others(begun: Begun, folder: Path) -> None:
    """See that what other starts are doing in `folder`, or have done since this one looked, is the experiment of `begun`.

    Who begins a run says so first (`write_begun`) and looks then: of two that begin at once, one sees the other.

    Raises:
        UserError: it is not; the sentence names it and what differs.
    """
    for path in sorted(folder.glob(f"*/{IDENTITY_FILE}")):
        key = path.parent.name
        if key == begun.key:
            continue
        other = None
        with contextlib.suppress(UserError):  # what cannot be read is told where it is used
            other = _of_another_start(path.parent)
        if other is not None and (found := apart(other, begun)):
            raise UserError(
                f"{folder / key}: another greenprune is doing, or has done, another experiment here "
                f"({'; '.join(found[:3])}); choose another folder with --out"
            )


def _of_another_start(folder: Path) -> Begun | None:
    """What a run that is being done, or was finished, is made of; None: it is neither. Raises UserError."""
    begun = read_begun(folder)
    if begun is None or is_held(folder / LOCK_FILE):
        return begun
    try:
        record = read_json(folder / RECORD_FILE)
    except (OSError, ValueError, RecursionError):
        return None
    return begun if isinstance(record, dict) and record.get("status") == "done" else None


def apart(one: Begun, other: Begun) -> tuple[str, ...]:
    """What tells the experiments of two different runs apart; empty where it is one, or where they have nothing in common."""
    first, second = one.settings, other.settings
    if any(first.get(name) != second.get(name) for name in ("dataset", "model")):
        return ()
    same_method = first.get("method") == second.get("method")
    left_out = OF_A_RUN if same_method else OF_A_METHOD
    stored, wanted = (_without(comparable(completed(each)), left_out) for each in (first, second))
    settings = differences(stored, wanted)
    varying = {"weights"} if first.get("seed") != second.get("seed") else set()
    if None in (one.identity.precision, other.identity.precision):  # the machine of the run will tell
        varying.add("precision")
    parts = tuple(name for name in MADE_OF if name not in varying and (same_method or name != "method"))
    return settings or differing(one.identity, other.identity, parts)


def difference(record: Record, key: str, runs: Sequence[Run], identities: Identities) -> tuple[str, ...]:
    """What tells a finished record from the experiment that `runs` are: `training.epochs: 8 -> 10`."""
    run = counterpart(record, key, runs)
    if run is None:
        pairs = dict.fromkeys((each.settings.dataset, each.settings.model) for each in runs)
        allowed = " or ".join(" on ".join(pair) for pair in pairs)
        return (f"dataset and model: {' on '.join(record.pair)} -> {allowed}",)
    same_method = run.settings.method.label == record.method
    left_out: tuple[str, ...]
    if run.key == key:
        left_out = ("steps",) if run.pilot and run.settings.steps is None else ()
    else:
        left_out = OF_A_RUN if same_method else OF_A_METHOD
    stored, wanted = comparable(completed(record.settings)), comparable(_plain(run.settings))
    settings = differences(_without(stored, left_out), _without(wanted, left_out))
    if settings:
        return settings
    unknown = identities.unknown(run.settings)
    parts = tuple(name for name in MADE_OF if name not in unknown and (same_method or name != "method"))
    expected = identities.of(run.settings.model_copy(update={"seed": record.seed}))
    return differing(record.identity, expected, parts)


def counterpart(record: Record, key: str, runs: Sequence[Run]) -> Run | None:
    """The planned run that is most like a record: itself, one of its method, or any of its data set and network."""
    found, best = None, -1
    for run in runs:
        if (run.settings.dataset, run.settings.model) == record.pair or run.key == key:
            likeness = 2 * (run.key == key) + (run.settings.method.label == record.method)
            if likeness > best:
                found, best = run, likeness
    return found


def _noted(record: Record, runs: Sequence[Run], identities: Identities) -> tuple[str, ...]:
    run = counterpart(record, record.key, runs)
    if run is None:
        return ()
    here = identities.of(run.settings.model_copy(update={"seed": record.seed}))
    return differing(
        record.identity, here, tuple(name for name in NOTED if name not in identities.unknown(run.settings))
    )


def _plain(settings: Settings) -> dict[str, Any]:
    return settings.model_dump(mode="json")


def _without(settings: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}
