"""What a comparison comes to, in three sentences: who keeps most, how sure that is, and what it saves."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from greenprune.bench.energy.reading import KINDS
from greenprune.bench.records.score import decimals_of, figure_text
from greenprune.bench.text import listed, plural, signed
from greenprune.plots.frame.comparison import REFERENCE, batch_label, budget_in_words, mean_interval, rows_of
from greenprune.plots.frame.frame import Results
from greenprune.plots.frame.leader import SCORE, Leader, leader
from greenprune.plots.frame.unsaved import unsaved
from greenprune.plots.report.measures import score_of, score_unit_of_differences

DIFFERENCE = "difference_to_dense"


def answer(part: Results, table: pd.DataFrame) -> list[str]:
    """Three sentences on the budget at which most methods compete, of those the smallest.

    Args:
        table: the `comparison` of `part`.
    """
    pruned = table[table["valid"] & (table["method_name"] != REFERENCE) & table[f"{SCORE}_mean"].notna()]
    if not len(pruned):
        return [_nothing(part, table)]
    sizes = pruned.groupby(["budget_cost", "budget"], sort=True).size()
    kind, budget = sizes[sizes == sizes.max()].index[0]
    rows = pruned[(pruned["budget_cost"] == kind) & (pruned["budget"] == budget)]
    higher = score_of(part)[2]
    found = leader(part, rows_of(rows), higher)
    same = (part.runs["budget_cost"] == kind) & (part.runs["budget"] == budget)
    what = budget_in_words(str(kind), budget, (part.records[i] for i in part.runs.index[same]))
    sentences = [
        _first(part, found, what, len(rows) - 1),
        _alone(part, found.best) if found.next is None else _second(part, found),
    ]
    return [*sentences, _third(found.best, table)]


def _nothing(part: Results, table: pd.DataFrame) -> str:
    if (table["method_name"] == REFERENCE).all():
        return f"{plural(len(part.runs), 'run')} of the dense network alone: there is nothing to compare it with yet."
    return "No pruned network kept its budget: see what went wrong."


def _first(part: Results, found: Leader, what: str, others: int) -> str:
    name, unit, higher = score_of(part)
    best = found.best
    rank = f"has the {'highest' if higher else 'lowest'} test {name} of {others + 1} methods" if others else "reaches"
    if not found.by_mean:
        rank = f"has the best test {name} of {others + 1} methods over the seeds that it shares with each"
    score = f"{figure_text(best[f'{SCORE}_mean'], best['score'])} {unit}".rstrip()
    joined = f", {score}" if others else f" a test {name} of {score}"
    return f"At {what}, {best['method']} {rank}{joined}: {_against_dense(part, best)}."


def _against_dense(part: Results, best: dict[str, Any]) -> str:
    """In words which way it differs: a reader need not know which direction of the score is good."""
    _, unit, higher = score_of(part)
    mean, low, high = (best[f"{DIFFERENCE}_{end}"] for end in ("mean", "low", "high"))
    if best["pairs"] == 0:
        return "there is no dense run of the same seeds to compare it with"
    decimals = decimals_of(best[f"{SCORE}_mean"], best["score"])
    unit = score_unit_of_differences(unit)
    return _difference(mean, low, high, best["pairs"], "the dense network", unit, decimals, higher)


def _second(part: Results, found: Leader) -> str:
    """The best one against the next, over the seeds that both have."""
    _, unit, higher = score_of(part)
    best, other, lead = found.best, found.next, found.lead
    assert other is not None
    assert lead is not None
    if not lead.pairs:
        return f"The next one, {other['method']}, has no seed in common with it, so that the two cannot be compared."
    decimals = decimals_of(best[f"{SCORE}_mean"], best["score"])
    whom, unit = f"the next one, {other['method']}", score_unit_of_differences(unit)
    return f"It is {_difference(lead.mean, lead.low, lead.high, lead.pairs, whom, unit, decimals, higher)}."


def _alone(part: Results, best: dict[str, Any]) -> str:
    runs = "1 run" if best["runs"] == 1 else f"{best['runs']} runs with other seeds each"
    return f"No other method was run at this budget; this one has {runs}."


def _difference(
    mean: float, low: float, high: float, pairs: int, whom: str, unit: str, decimals: int, higher: bool
) -> str:
    """ "0.90 points worse than X (95 % interval 0.12 to 1.68)", "level with X" where the interval holds zero."""
    side = "better" if (mean > 0) == higher else "worse"
    figure = f"{abs(mean):.{decimals}f} {unit}".rstrip()
    if pairs == 1 or not math.isfinite(low + high):
        than = f"as good as {whom}" if mean == 0 else f"{figure} {side} than {whom}"
        return f"{than} (one seed: this may be chance)"
    if low <= 0 <= high:
        interval = f"95 % interval {signed(low, decimals)} to {signed(high, decimals)}"
        return (
            f"level with {whom} (difference {f'{signed(mean, decimals)} {unit}'.rstrip()}, {interval}, {pairs} seeds)"
        )
    ends = sorted((abs(low), abs(high)))
    return (
        f"{figure} {side} than {whom} (95 % interval {ends[0]:.{decimals}f} to {ends[1]:.{decimals}f}, {pairs} seeds)"
    )


def _third(best: dict[str, Any], table: pd.DataFrame) -> str:
    """Inference and training beside dense, joules first."""
    kinds = [kind for kind in KINDS if _known(best[f"large_batch_energy_ratio_{kind}_mean"])][:1]
    at, small = batch_label("large_batch", table), batch_label("batch_1", table)
    inference = [(_ratio(best, f"large_batch_energy_ratio_{kind}"), f"the joules ({kind})") for kind in kinds]
    if _known(best["large_batch_latency_ratio_mean"]):
        inference.append((_ratio(best, "large_batch_latency_ratio"), "the time"))
    parts = []
    if inference:
        parts.append(f"{listed([f'{ratio} {what}' for ratio, what in inference])} of inference at {at}")
    if _known(best["batch_1_latency_ratio_mean"]):
        parts.append(f"{_ratio(best, 'batch_1_latency_ratio')} the time at {small}")
    kinds = [kind for kind in KINDS if _known(best[f"train_energy_{kind}_ratio_mean"])][:1]
    if kinds:
        parts.append(f"{best[f'train_energy_{kinds[0]}_ratio_mean']:.2f}× the joules of training ({kinds[0]})")
    elif _known(best["train_duration_ratio_mean"]):
        parts.append(f"{best['train_duration_ratio_mean']:.2f}× the time of training")
    if not parts:
        return "What it saves is not known: neither time nor joules were measured beside the dense network."
    said = f"Next to dense it takes {listed(parts)}"
    return f"{said}{_not_saved(best, table, said)}."


def _not_saved(best: dict[str, Any], table: pd.DataFrame, said: str) -> str:
    """Where the smaller network is the slower or the thirstier one, with its figure unless that is `said`."""
    own = unsaved(table[table["valid"] & (table["method"] == best["method"]) & (table["budget"] == best["budget"])])
    if not own:
        return ""
    told = [f"{o.what} {o.where}" + ("" if f"{o.figure} the {o.what}" in said else f" ({o.figure})") for o in own]
    return f": its {own[0].kept_percent:.0f} % of the {own[0].counted} did not save {listed(told)}"


def _ratio(row: dict[str, Any], name: str) -> str:
    mean, low, high = mean_interval(row, name)
    interval = f" [{low:.2f}, {high:.2f}]" if math.isfinite(low + high) else ""
    return f"{mean:.2f}×{interval}"


def _known(value: float) -> bool:
    return math.isfinite(value)
