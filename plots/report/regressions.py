"""`greenprune compare BASE NEW`: what got worse between two results folders, run by run.

Runs belong together when suite, data set, network, method, budget and seed agree. Of each method and budget the pairs
are taken together:

- the score: mean difference, with its 95 % interval over seeds (Student's t, two seeds or more);
- training time and training energy: ratio new / base, geometric mean and 95 % interval over seeds;
- inference time and energy: ratio of the ratios to dense, each measured side by side within its run, so that a machine that
  is slower today is no regression; with one seed the interval comes from those of the two runs.

Worse is: by more than the tolerance, and not within noise, which means that the interval, where there is one, leaves out
"no change". A run that has lost its result or its validity is a regression too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from greenprune.bench.energy.reading import KINDS
from greenprune.bench.errors import UserError
from greenprune.bench.records.score import decimals_of, in_percent
from greenprune.bench.suite.views import VIEW_NAMES
from greenprune.bench.text import bounded, listed, signed
from greenprune.plots.frame.comparable import refuse_incomparable
from greenprune.plots.frame.frame import GROUP_COLUMNS, Results
from greenprune.plots.frame.interval import mean_with_interval
from greenprune.plots.frame.load import load
from greenprune.plots.frame.problems import unreadable
from greenprune.plots.report.pairing import of_one_machine
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

TOLERANCE = 0.02
"""How much worse is no regression yet: two points of a score in per cent, 2 % of another score, of time and of energy."""

Z_95 = 1.959964
IDENTITY = ["suite", "dataset", "model", "method", "budget", "seed"]


@dataclass(frozen=True)
class Change:
    """One figure of one method and budget, new against base.

    Attributes:
        name: of the figure, for people.
        value: of the score the difference, in its unit or in points; else the ratio new / base.
        low, high: 95 % interval, NaN where it is unknown.
        pairs: how many runs of each side it is over.
        worse: beyond the tolerance and not within noise.
    """

    suite: str
    method: str
    budget: float
    name: str
    value: float
    low: float
    high: float
    pairs: int
    worse: bool
    decimals: int | None = None  # of a difference; None: it is a ratio

    def text(self) -> str:
        decimals = self.decimals
        write = (lambda ratio: f"{ratio:.3f}") if decimals is None else (lambda value: signed(value, decimals))
        return bounded(self.value, self.low, self.high, write)


@dataclass(frozen=True)
class Comparison:
    """Attributes: changes; lost (runs of base that new has not, or not valid, with why); notes for the reader."""

    changes: tuple[Change, ...]
    lost: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def regressed(self) -> bool:
        return bool(self.lost) or any(change.worse for change in self.changes)


def compare(base: Results, new: Results, tolerance: float = TOLERANCE) -> Comparison:
    """Compare run by run.

    Raises:
        UserError: the two have no run in common, or one that differs in data, network or recipe.
    """
    sizes = _batch_sizes(base, new)
    ours, theirs = of_one_machine(_runs(base, sizes), _runs(new, sizes), IDENTITY)
    valid = ours[ours["valid"]]
    if not len(valid):
        raise UserError("BASE holds no valid run, so there is nothing to compare with")
    failed = _failed(new)
    known = set(valid[IDENTITY].itertuples(index=False, name=None))
    common = known & set(theirs[IDENTITY].itertuples(index=False, name=None))
    if not common and not set(valid["suite"] + "/" + valid["key"]) & set(failed):
        raise UserError("BASE and NEW have no run in common (same suite, data set, network, method, budget and seed)")
    both = valid.merge(theirs[theirs["valid"]], on=IDENTITY, suffixes=("_base", "_new"))
    notes = refuse_incomparable(base, new)
    lost = tuple(_lost(valid, theirs, new))
    same_machine = bool((both["machine_base"] == both["machine_new"]).all())
    if not same_machine:
        machines = [listed(sorted(set(both[f"machine_{side}"]))) for side in ("base", "new")]
        notes.append(
            f"BASE is of {machines[0]}, NEW of {machines[1]}, not run by run of the same: training time and energy are "
            "compared as multiples of the dense network's"
        )
    added = len(theirs) - len(ours.merge(theirs[IDENTITY], on=IDENTITY))
    if added:
        notes.append(f"NEW holds {added} more that BASE has not")
    if not same_machine:
        both = _relative_to_dense(both)
    changes = [
        change
        for (*_, method, budget), pairs in both.groupby(IDENTITY[:-1], sort=True)  # type: ignore[misc]
        for change in _changes(_name(pairs), str(method), float(budget), pairs, tolerance)  # type: ignore[arg-type]
    ]
    notes += [f"{name}: no batch size at which both measured inference" for name in _without_batch(base, new, sizes)]
    notes += _unmeasured(both)
    return Comparison(tuple(changes), lost, tuple(notes))


def compare_folders(base: Path, new: Path, tolerance: float = TOLERANCE) -> Comparison:
    """`compare` for two results folders.

    Raises:
        UserError: a folder without records, an unreadable record, or nothing to compare.
    """
    return compare(_loaded(base), _loaded(new), tolerance)


def show(found: Comparison, tolerance: float, console: Console) -> None:
    """Print every change, then again what got worse."""
    if found.changes:
        console.print(_table(found.changes))
    for note in found.notes:
        console.print(f"Note: {note}.", highlight=False, soft_wrap=True)
    if not found.regressed:
        console.print(f"No regression beyond {tolerance:g}.", highlight=False)
        return
    console.print(f"\nGot worse by more than {tolerance:g}:", highlight=False)
    worse = [change for change in found.changes if change.worse]
    if worse:
        console.print(_table(worse))
    for line in found.lost:
        console.print(f"lost: {line}", highlight=False, soft_wrap=True)


def _loaded(folder: Path) -> Results:
    results = load([folder])
    bad = unreadable(results.problems)
    if bad:
        raise UserError("\n".join(bad))
    return results


Sizes = dict[tuple[Any, ...], int]


def _batch_sizes(base: Results, new: Results) -> Sizes:
    """By suite, data set and network: the largest batch at which both sides measured inference."""
    found: list[dict[tuple[Any, ...], set[int]]] = []
    for results in (base, new):
        sizes: dict[tuple[Any, ...], set[int]] = {}
        for *group, size in results.inference[[*IDENTITY[:3], "batch_size"]].itertuples(index=False, name=None):
            sizes.setdefault(tuple(group), set()).add(int(size))
        found.append(sizes)
    both = {group: sizes & found[1].get(group, set()) for group, sizes in found[0].items()}
    return {group: max(sizes) for group, sizes in both.items() if sizes}


def _without_batch(base: Results, new: Results, sizes: Sizes) -> list[str]:
    """Suites of both of which inference was measured at no common batch size, with data set and network."""
    groups = [set(r.inference[IDENTITY[:3]].itertuples(index=False, name=None)) for r in (base, new)]
    return [", ".join(map(str, group)) for group in sorted(groups[0] & groups[1]) if group not in sizes]


def _runs(results: Results, sizes: Sizes) -> pd.DataFrame:
    """Runs with their inference in batches of these sizes."""
    measured = results.inference
    usual = VIEW_NAMES["samples"]
    wanted = [sizes.get(group) for group in measured[IDENTITY[:3]].itertuples(index=False, name=None)]
    large = measured[measured["batch_size"] == pd.Series(wanted, index=measured.index, dtype=float)]
    ratios = [name for name in large.columns if "ratio" in name]
    keys = [*GROUP_COLUMNS, "key"]
    # A run of another view is a method of its own here; dense, which stands in every view, is one run.
    once = results.runs.loc[results.runs["view"] == usual, "key"]
    runs = results.runs[(results.runs["view"] == usual) | ~results.runs["key"].isin(once)]
    named = runs["method"].where(runs["view"] == usual, runs["method"] + " (" + runs["view"] + ")")
    return runs.assign(method=named).merge(large[[*keys, *ratios]], on=keys, how="left")


def _failed(results: Results) -> dict[str, str]:
    return {problem.where: problem.what for problem in results.problems if problem.kind == "failed"}


def _lost(valid: pd.DataFrame, theirs: pd.DataFrame, new: Results) -> list[str]:
    """Valid runs of base of the suites that new has too, which new has not or not valid."""
    failed = _failed(new)
    suites = set(theirs["suite"]) | {where.split("/")[0] for where in failed}
    there = {tuple(row[:6]): (row[6], row[7]) for row in theirs[[*IDENTITY, "valid", "key"]].itertuples(index=False)}
    reasons = {problem.where: problem.what for problem in new.problems if problem.kind == "invalid"}
    found = []
    for row in valid[valid["suite"].isin(suites)].itertuples():
        name = f"{row.suite}/{row.key}"
        state = there.get(tuple(getattr(row, name) for name in IDENTITY))
        if state is None:
            found.append(f"{name}: {failed.get(name, 'NEW has no such run')}")
        elif not state[0]:
            found.append(f"{name}: invalid ({reasons.get(f'{row.suite}/{state[1]}', 'no reason was recorded')})")
    return found


def _relative_to_dense(both: pd.DataFrame) -> pd.DataFrame:
    """Time and energy of training of either side divided by those of its dense run, of the seed and machine; NaN without."""
    names = [f"train_{name}" for name in ("duration_s", *(f"energy_{kind}_j" for kind in KINDS))]
    columns = [f"{name}_{side}" for name in names for side in ("base", "new")]
    among = ["suite", "dataset", "model", "seed", "machine_base", "machine_new"]
    dense = both[both["method_name_base"] == "dense"].drop_duplicates(among)
    dense = dense.set_index(among)[columns]
    found = both.copy()
    found[columns] = both[columns] / dense.reindex(pd.MultiIndex.from_frame(both[among])).to_numpy()
    return found


def _name(pairs: pd.DataFrame) -> str:
    """The suite, and data set and network where it has several of them."""
    first = pairs.iloc[0]
    view = "" if first["view_base"] == VIEW_NAMES["samples"] else f", {first['view_base']}"
    return str(first["comparison_base"]).removesuffix(view)  # the method has it in its name


RATIOS = (
    ("training time, ×", "train_duration_s"),
    ("inference time, ×", "latency_ratio"),
    *((f"training energy ({kind}), ×", f"train_energy_{kind}_j") for kind in KINDS),
    *((f"inference energy ({kind}), ×", f"energy_ratio_{kind}") for kind in KINDS),
)
"""Figures that are compared as ratios, each with its column."""


def _unmeasured(both: pd.DataFrame) -> list[str]:
    """A sentence for each figure that runs of base have and those of new have not: it cannot have got worse, nor better."""
    found = []
    for name, column in RATIOS:
        lacks = both[both[f"{column}_base"].notna() & both[f"{column}_new"].isna()]
        if len(lacks):
            keys = [f"{row.suite}/{row.key_base}" for row in lacks.itertuples()]
            told = listed(keys[:3]) if len(keys) <= 3 else f"{', '.join(keys[:3])} and {len(keys) - 3} more"
            found.append(f"{name.removesuffix(', ×')}: BASE has a figure of {told} that NEW has not")
    return found


def _changes(suite: str, method: str, budget: float, pairs: pd.DataFrame, tolerance: float) -> list[Change]:
    changes = [_score(suite, method, budget, pairs, tolerance)]
    for name, column in RATIOS:
        before, after = (pairs[f"{column}_{side}"].to_numpy(dtype=float) for side in ("base", "new"))
        there = (before > 0) & (after > 0)  # of NaN too
        if not there.any():
            continue
        center, lower, upper = mean_with_interval(np.log(after[there] / before[there]))
        if there.sum() == 1 and "_ratio" in column:
            half = math.hypot(*(_half_log(pairs[there], column, side) for side in ("base", "new")))
            lower, upper = center - half, center + half
        value, low, high = math.exp(center), math.exp(lower), math.exp(upper)
        worse = value > 1 + tolerance and not (low <= 1)
        changes.append(Change(suite, method, budget, name, value, low, high, int(there.sum()), worse))
    return changes


def _score(suite: str, method: str, budget: float, pairs: pd.DataFrame, tolerance: float) -> Change:
    """Worse is to the other side than the one that is better, by more than so many points, or so much of base's score."""
    label, higher = str(pairs["score_base"].iloc[0]), bool(pairs["higher_is_better_base"].iloc[0])
    base = pairs["test_score_base"].to_numpy(dtype=float)
    value, low, high = mean_with_interval(pairs["test_score_new"].to_numpy(dtype=float) - base)
    name, _, _ = label.partition(", ")
    name, allowed = (
        (f"{name}, points", 100.0) if in_percent(label) else (f"{label}, difference", float(abs(base).mean()))
    )
    loss, excused = (-value, high >= 0) if higher else (value, low <= 0)  # an unknown bound excuses nothing
    worse = loss > allowed * tolerance and not excused
    decimals = decimals_of(float(base.mean()), label)
    return Change(suite, method, budget, name, value, low, high, len(pairs), worse, decimals)


def _half_log(pairs: pd.DataFrame, column: str, side: str) -> float:
    """Half the interval of one run's ratio, as a logarithm; NaN where it has none."""
    low, high = (float(pairs[f"{column}_{end}_{side}"].iloc[0]) for end in ("low", "high"))
    return math.log(high / low) / 2 if low > 0 and high > 0 else math.nan


def _table(changes: Sequence[Change]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("Suite", "Method", "Budget, %", "Figure", "New against base", "Pairs"):
        right = heading in ("Budget, %", "New against base", "Pairs")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for change in changes:
        cells = (change.suite, change.method, f"{change.budget * 100:g}", change.name, change.text(), str(change.pairs))
        table.add_row(*cells, style="red" if change.worse else None)
    return table
