"""Tidy tables of finished runs, which tables, figures and the report are made from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd
from greenprune.bench.energy.reading import KINDS
from greenprune.bench.records.joint import Joint
from greenprune.bench.records.record import Record
from greenprune.bench.records.tuning import Tuning
from greenprune.plots.frame.problems import Problem
from greenprune.plots.frame.rows import network_label
from greenprune.plots.frame.whole import whole

GROUP_COLUMNS = ("folder", "suite", "dataset", "model", "machine", "view", "score")
"""Runs are compared with one another only where all of these agree."""


def _per_kind(template: str, meaning: str) -> dict[str, str]:
    """Three columns (figure, lower bound, upper bound) for each kind of energy."""
    columns = {}
    for kind in KINDS:
        name = template.format(kind=kind)
        columns[name] = f"{meaning}, {kind}"
        columns[f"{name}_low"] = f"lower bound of {name}"
        columns[f"{name}_high"] = f"upper bound of {name}"
    return columns


TEXT_COLUMNS = frozenset(
    (*GROUP_COLUMNS, "comparison", "key", "method", "method_name", "budget_cost", "greenprune_version", "torch_version")
)

RUN_COLUMNS: dict[str, str] = {
    "folder": "the results folder as it was given to load()",
    "suite": "name of the suite",
    "dataset": "the images",
    "model": "the dense network; (pretrained): it started from weights that were trained before",
    "machine": "label of the machine: GPU if used, CPU, cores, threads",
    "view": "what all trainings have in common: equal images, equal training MACs or equal training energy",
    "score": "what networks are judged by, with its unit: accuracy, %",
    "comparison": "what to call it: the suite, and of data set, network and view what tells it from its others",
    "key": "name of the run's folder within the suite",
    "method": "the method's label within the suite",
    "method_name": "the method's registered name",
    "budget": "requested fraction of the dense cost to keep, at most",
    "budget_cost": "what the budget counts: macs, params, connections, latency or energy",
    "seed": "seed of the run",
    "valid": "whether the run kept its budget and its training allowance",
    "kept": "what the budget counts: the result / the dense network",
    "kept_macs": "MACs of the result / MACs of the dense network",
    "kept_params": "parameters of the result / parameters of the dense network",
    "macs": "multiply-accumulates for one image, of all products that are executed",
    "params": "number of parameters",
    "macs_dense": "macs of the dense network",
    "params_dense": "params of the dense network",
    "higher_is_better": "of the score",
    "train_score": "in the unit of the score, last epoch, on the training images",
    "holdout_score": "the same, on the held-out part of the training set",
    "test_score": "the same, evaluated once, after training",
    "allowance_samples": "training samples the run was allowed, all phases together",
    "train_samples": "training samples seen in all phases together",
    "train_forward_macs": "multiply-accumulates of all forward passes in training",
    "train_duration_s": "seconds of training, all phases together",
    "interruptions": "how often the run was ended and went on",
    "redone_share": "seconds of what was done twice for that, in no other column / train_duration_s",
    **_per_kind("train_energy_{kind}_j", "joules of the whole training"),
    **{f"train_co2_{kind}_g": f"grams of CO2 equivalent of the whole training, from {kind} joules" for kind in KINDS},
    "greenprune_version": "version of greenprune that wrote the record",
    "torch_version": "version of torch that the run used",
}
"""Every column of `Results.runs` (one row per finished run) with its meaning and unit. Unknown figures are NaN."""

INFERENCE_COLUMNS: dict[str, str] = {
    **{name: RUN_COLUMNS[name] for name in (*GROUP_COLUMNS, "key", "method", "method_name", "budget", "seed", "valid")},
    "batch_size": "images per forward pass",
    "together": "whether all networks of the suite were measured in one process (inference.json), not each in its run",
    "latency_ms": "median milliseconds of one forward pass of a whole batch",
    "dense_latency_ms": "the same for the dense network, measured side by side",
    "latency_ratio": "time of this network / time of the dense one, geometric mean over paired blocks",
    "latency_ratio_low": "lower end of its 95 % interval",
    "latency_ratio_high": "upper end of its 95 % interval",
    **_per_kind("energy_{kind}_j_per_1000_images", "joules to classify 1,000 images"),
    **_per_kind("dense_energy_{kind}_j_per_1000_images", "joules of the dense network to classify 1,000 images"),
    **_per_kind("energy_ratio_{kind}", "joules per image, this network / the dense one, side by side"),
}
"""Every column of `Results.inference` (one row per finished run and batch size).

The bounds of `energy_ratio_*` are its 95 % interval over paired blocks. Where a record has no joules of single blocks,
the ratio is that of the totals, and its bounds are unknown.
"""


@dataclass(frozen=True, eq=False)  # equal to itself alone, so that what is computed from it can be remembered
class Results:
    """What a results folder holds.

    Attributes:
        runs: one row per finished run, columns as in `RUN_COLUMNS`.
        inference: one row per finished run and batch size, columns as in `INFERENCE_COLUMNS`.
        records: the records behind `runs`, in the same order, without what is large: see `whole`.
        places: the folder that each record lies in, in the same order; what is stored beside a record is found there.
        tunings: the searches of `greenprune tune` that lie beside the records, each with the folder as it was given.
        joints: for each record in the same order, the measurement of all networks together that its inference figures are
            from; None where they are its own.
        problems: what was left out, what failed and what is invalid, in the order of the files.
    """

    runs: pd.DataFrame
    inference: pd.DataFrame
    records: tuple[Record, ...]
    places: tuple[Path, ...]
    joints: tuple[Joint | None, ...]
    problems: tuple[Problem, ...]
    tunings: tuple[tuple[str, Tuning], ...] = ()

    def comparisons(self) -> tuple[Results, ...]:
        """One `Results` for each folder, suite, data set, network, machine and view.

        What may be compared, apart from what may not.

        The parts carry no problems: those belong to the whole.
        """
        return _comparisons(self)

    def whole(self, record: Record) -> Record:
        """One of the `records` with all that it has, read again: learning curve, history."""
        return whole(record, next(p for r, p in zip(self.records, self.places, strict=True) if r is record))


@lru_cache(maxsize=4)  # the same parts every time, so that what is computed from a part can be remembered too
def _comparisons(results: Results) -> tuple[Results, ...]:
    names = list(GROUP_COLUMNS)
    groups = list(results.runs.groupby(names, sort=False))
    if len(groups) == 1 and not results.problems and results.tunings == _searched(results, groups[0][1]):
        return (results,)
    parts = []
    for _, runs in groups:
        same = (results.inference[names] == runs[names].iloc[0]).all(axis=1)
        parts.append(
            Results(
                runs=runs.reset_index(drop=True),
                inference=results.inference[same].reset_index(drop=True),
                records=tuple(results.records[i] for i in runs.index),
                places=tuple(results.places[i] for i in runs.index),
                joints=tuple(results.joints[i] for i in runs.index),
                problems=(),
                tunings=_searched(results, runs),
            )
        )
    return tuple(parts)


def _searched(results: Results, runs: pd.DataFrame) -> tuple[tuple[str, Tuning], ...]:
    """The searches in the folder, suite, data set and network of `runs`."""
    own = tuple(runs[list(GROUP_COLUMNS[:4])].iloc[0])
    return tuple(
        (folder, tuning)
        for folder, tuning in results.tunings
        if (folder, tuning.suite, tuning.pair[0], network_label(tuning.settings)) == own
    )
