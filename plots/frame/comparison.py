"""The numbers that are compared: one row per method and budget, over its seeds.

Everything that people read (tables, figures, sentences) takes its numbers from here, so that they cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import pandas as pd
from greenprune.bench.energy.reading import KINDS
from greenprune.bench.records.record import Record
from greenprune.bench.runtimes.names import EAGER
from greenprune.plots.frame.frame import GROUP_COLUMNS, Results
from scipy import stats

UNKNOWN = float("nan")
REFERENCE = "dense"

COUNTED = {
    "macs": "MACs",
    "params": "parameters",
    "connections": "connections",
    "latency": "inference time",
    "energy": "inference energy",
}
"""What a budget counts, in words, by the column budget_cost."""


def budget_in_words(cost: str, budget: float, records: Iterable[Record]) -> str:
    """ "50 % of the MACs", "50 % of the inference time at batch 1", or "… at batch 64 in compile".

    Args:
        cost: of the column budget_cost.
        records: of runs that have this budget; where they were calibrated in several ways, none of these is told.
    """
    tables = {(c.batch_size, c.runtime) for r in records if r.cost and (c := r.cost.calibration) is not None}
    words = f"{budget * 100:g} % of the {COUNTED[cost]}"
    if len(tables) != 1:
        return words
    ((batch_size, runtime),) = tables
    return f"{words} at batch {batch_size}{'' if runtime == EAGER else f' in {runtime}'}"


BATCHES = ("batch_1", "large_batch")
"""Inference is compared at batch 1 and at the largest batch that a comparison measured (column large_batch_size)."""


def comparison(results: Results) -> pd.DataFrame:
    """One row per folder, suite, machine, method, budget and validity: figures over the seeds.

    A figure `x` becomes `x_mean` and `x_sd` (n - 1 in the denominator; NaN with one run). Where every run has bounds,
    `x_low` and `x_high` are the means of them. A figure that a run of the row lacks is NaN for the whole row: a mean
    over some of the runs would look like a mean over all of them.

    `test_score_*` and `difference_to_dense_*` are in the unit of the column `score` (of per cent the difference is in
    points), and better in the direction of `higher_is_better`.

    `difference_to_dense_*` and `*_ratio_*` are taken seed by seed against the valid dense run of the same seed
    (`pairs` of them); `difference_to_dense_low` and `_high` are the 95 % interval of the paired mean
    difference (Student's t). Inference ratios come from the side-by-side measurement within each run, and so do the
    joules of the dense network beside it (`*_dense_energy_*`): joules of different runs were measured at different
    times, on a machine that may have been differently busy.

    `tuning_*` is what `greenprune tune` took in the same folder, in trainings of the dense network (`_macs_ratio`); 0 for
    methods that were not searched there, NaN where none was.

    Invalid runs have rows of their own (`valid` is False), and never serve as the reference.
    """
    return _remembered(results).copy()  # the caller may do with it as he likes


@lru_cache(maxsize=4)  # every table, figure and sentence asks again
def _remembered(results: Results) -> pd.DataFrame:
    return pd.DataFrame([row for part in results.comparisons() for row in _rows_of_part(part)])


@lru_cache(maxsize=16)
def _rows_of_part(part: Results) -> list[dict[str, Any]]:
    return list(_rows(part))


def reading_order(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a `comparison` as they are read: within each one dense first, then budget by budget."""
    ranked = table.assign(
        part=table.groupby(list(GROUP_COLUMNS), sort=False).ngroup(),
        other=table["method_name"] != REFERENCE,
        invalid=~table["valid"],
    )
    order = ranked.sort_values(["part", "other", "budget", "method", "invalid"], kind="stable").index
    return table.loc[order].reset_index(drop=True)


MOST_ROWS = 40
"""Of a figure that has a bar or a line of text for each row: more can't be read, and such a picture fills the memory."""


def rows_that_fit(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a `comparison`; where they are too many, of each method the smallest budget alone."""
    if len(table) > MOST_ROWS:
        table = table[table["budget"] == table.groupby("method")["budget"].transform("min")][:MOST_ROWS]
    return table.reset_index(drop=True)


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as dictionaries by column."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _rows(part: Results) -> Iterator[dict[str, Any]]:
    """The rows of one comparison, dense first, then by name and budget."""
    runs = part.runs
    dense = runs[(runs["method_name"] == REFERENCE) & runs["valid"]]
    dense = dense[dense["method"] == dense["method"].min()].set_index("seed")  # one label, should there be several
    sizes = part.inference["batch_size"]
    large = sizes[sizes > 1].max()
    # Half of the MACs is another budget than half of the parameters; the dense network keeps all of everything.
    counts = runs["budget_cost"].where(runs["method_name"] != REFERENCE, "")
    ranked = runs.assign(other=runs["method_name"] != REFERENCE, counts=counts, invalid=~runs["valid"])
    within = ["other", "method", "budget", "counts", "invalid"]
    for (_, method, budget, _, invalid), group in ranked.groupby(within, sort=True):
        by_seed = group.sort_values("seed").set_index("seed")
        measured = part.inference[part.inference["key"].isin(group["key"])]
        row: dict[str, Any] = {name: group[name].iloc[0] for name in GROUP_COLUMNS}
        row |= {"method": method, "method_name": group["method_name"].iloc[0], "budget": budget, "valid": not invalid}
        row |= _tuning(part, str(method), dense)
        row |= {"budget_cost": group["budget_cost"].iloc[0]}
        row |= {"runs": len(group), "seeds": " ".join(str(seed) for seed in by_seed.index)}
        row |= over_seeds("kept_percent", by_seed["kept"] * 100)
        row |= over_seeds("kept_macs_percent", by_seed["kept_macs"] * 100)
        row |= over_seeds("kept_params_percent", by_seed["kept_params"] * 100)
        row |= {"higher_is_better": bool(group["higher_is_better"].iloc[0])}
        row |= over_seeds("test_score", by_seed["test_score"])
        row |= _against_dense(by_seed, dense)
        for kind in KINDS:
            name = f"train_energy_{kind}_j"
            row |= with_bounds(name, name, group)
            row |= over_seeds(f"train_co2_{kind}_g", group[f"train_co2_{kind}_g"])
        row["large_batch_size"] = large
        row["inference_together"] = bool(len(measured) and measured["together"].all())
        for batch, size in zip(BATCHES, (1, large), strict=True):
            row |= _inference(batch, measured[measured["batch_size"] == size], len(group))
        yield row


def _against_dense(by_seed: pd.DataFrame, dense: pd.DataFrame) -> dict[str, Any]:
    """Difference of the score and training ratios to the dense runs of the same seeds; both frames indexed by seed."""
    pairs = by_seed.index.intersection(dense.index)
    ours, reference = by_seed.loc[pairs], dense.loc[pairs]
    name = "difference_to_dense"
    difference = ours["test_score"] - reference["test_score"]
    row = {"pairs": len(pairs), **over_seeds(name, difference)}
    half_width = UNKNOWN
    if len(pairs) > 1:
        half_width = float(stats.t.ppf(0.975, len(pairs) - 1)) * row[f"{name}_sd"] / len(pairs) ** 0.5
    row |= {f"{name}_low": row[f"{name}_mean"] - half_width, f"{name}_high": row[f"{name}_mean"] + half_width}
    for column in ("train_samples", "train_forward_macs", "train_duration_s"):
        row |= over_seeds(column, by_seed[column])
        row |= over_seeds(f"{column.removesuffix('_s')}_ratio", ours[column] / reference[column])
    for kind in KINDS:
        column = f"train_energy_{kind}_j"
        row |= over_seeds(f"train_energy_{kind}_ratio", ours[column] / reference[column])
    return row


def _tuning(part: Results, method: str, dense: pd.DataFrame) -> dict[str, float]:
    """What searching the method's options took, at all budgets and seeds; NaN where the suite has no search at all."""
    if not part.tunings:
        return {"tuning_trials": UNKNOWN, "tuning_forward_macs": UNKNOWN, "tuning_macs_ratio": UNKNOWN}
    own = [tuning for _, tuning in part.tunings if tuning.method == method]
    macs = sum(tuning.forward_macs for tuning in own)
    ratio = macs / dense["train_forward_macs"].mean() if len(dense) else UNKNOWN
    trials = sum(len(tuning.trials) for tuning in own)
    return {"tuning_trials": trials, "tuning_forward_macs": macs, "tuning_macs_ratio": ratio}


def _inference(batch: str, measured: pd.DataFrame, runs: int) -> dict[str, float]:
    """Latency and energy at one batch size; all NaN unless each of the `runs` has measured it."""
    if len(measured) != runs:
        measured = measured.reindex(range(runs))  # no such rows: every figure becomes unknown
    row = over_seeds(f"{batch}_latency_ms", measured["latency_ms"])
    row |= with_bounds(f"{batch}_latency_ratio", "latency_ratio", measured)
    for kind in KINDS:
        for column in (f"energy_{kind}_j_per_1000_images", f"energy_ratio_{kind}"):
            row |= with_bounds(f"{batch}_{column}", column, measured)
        column = f"dense_energy_{kind}_j_per_1000_images"
        row |= over_seeds(f"{batch}_{column}", measured[column])
    return row


def over_seeds(name: str, values: pd.Series[float]) -> dict[str, float]:
    """Mean and standard deviation; the mean is NaN when a value is, the standard deviation also with one value."""
    return {f"{name}_mean": values.mean(skipna=False), f"{name}_sd": values.std(ddof=1, skipna=False)}


def with_bounds(name: str, column: str, rows: pd.DataFrame) -> dict[str, float]:
    """As `over_seeds`, with the means of the lower and of the upper bounds."""
    bounds = {f"{name}_{end}": rows[f"{column}_{end}"].mean(skipna=False) for end in ("low", "high")}
    return over_seeds(name, rows[column]) | bounds


def mean_interval(row: dict[str, Any], name: str) -> tuple[float, float, float]:
    """A figure of a row of a `comparison` with its 95 % interval: over seeds (Student's t), of a single run its own."""
    mean, sd, low, high = (row[f"{name}_{end}"] for end in ("mean", "sd", "low", "high"))
    if row["runs"] == 1:
        return mean, low, high
    half = float(stats.t.ppf(0.975, row["runs"] - 1)) * sd / math.sqrt(row["runs"])
    return mean, mean - half, mean + half


def batch_label(batch: str, table: pd.DataFrame) -> str:
    """How to call one of `BATCHES` in a table: "batch 1", "batch 250", or "large batch" where sizes differ."""
    sizes = [1] if batch == "batch_1" else list(table["large_batch_size"].dropna().unique())
    return f"batch {sizes[0]:.0f}" if len(sizes) == 1 else "large batch"
