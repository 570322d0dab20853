"""Every quantity that the runs of a comparison have, as one table: what the figure of the report puts on its axes.

Results of one comparison -> measured() -> Measured(measures, low, value, high), a row for each run
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from greenprune.bench.energy.reading import KINDS
from greenprune.plots.frame.comparison import COUNTED, REFERENCE
from greenprune.plots.frame.frame import Results
from greenprune.plots.frame.rows import inference_row

Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Measure:
    """One quantity.

    Attributes:
        name: short and stable, since links hold it: "kept_macs", "latency_ms.64".
        label: for people, without the unit.
        unit: empty where it has none.
        better: the direction of what is better.
        group: under which heading people choose it.
    """

    name: str
    label: str
    unit: str
    better: Better
    group: str


@dataclass(frozen=True, eq=False)
class Measured:
    """What the runs of a comparison have.

    Attributes:
        measures: those that at least one run has a figure of.
        values: (runs, measures, 3): the figure, and the lower and upper end of its own interval; NaN where unknown.
        x, y: names of what is drawn first.
        cost, loss: names of what the two limits are for; cost is None where no joules and no milliseconds are known.
    """

    measures: tuple[Measure, ...]
    values: np.ndarray
    x: str
    y: str
    cost: str | None
    loss: str | None


Column = tuple[Measure, np.ndarray]


def measured(part: Results) -> Measured:
    """All quantities of the runs of one comparison, in the order of `part.runs`."""
    columns = [(m, values) for m, values in _columns(part) if np.isfinite(values[:, 0]).any()]
    names = [measure.name for measure, _ in columns]
    energies = [n for n in names if n.startswith("energy_")]
    latencies = [n for n in names if n.startswith("latency_ms.")]
    ratios = [n for n in names if n.startswith("energy_ratio_")] or [n for n in names if n.startswith("latency_ratio.")]
    joules = [n for n in energies if not n.startswith("energy_ratio_")]
    x = ([*ratios, "kept_macs"])[0]
    values = np.stack([values for _, values in columns], axis=1) if columns else np.empty((len(part.runs), 0, 3))
    cost = ([*joules, *latencies, None])[0]
    return Measured(
        tuple(measure for measure, _ in columns), values, x, "test_score", cost, "loss" if "loss" in names else None
    )


def score_of(part: Results) -> tuple[str, str, bool]:
    """The score of a comparison: its name, its unit, and whether more of it is better."""
    row = part.runs.iloc[0]
    name, _, unit = str(row["score"]).partition(", ")
    return name, unit, bool(row["higher_is_better"])


def score_unit_of_differences(unit: str) -> str:
    """Differences of what is in per cent are in points."""
    return "points" if unit == "%" else unit


def _columns(part: Results) -> Iterator[Column]:
    yield from _scores(part)
    yield from _sizes(part)
    yield from _inference(part)
    yield from _training(part)


def _scores(part: Results) -> Iterator[Column]:
    runs = part.runs
    name, unit, higher = score_of(part)
    better: Better = "higher" if higher else "lower"
    test = runs["test_score"].to_numpy(float)
    yield Measure("test_score", f"Test {name}", unit, better, "Score"), _alone(test)
    yield _loss(runs, test, unit, higher)
    for column, label in (("holdout", "Held-out"), ("train", "Training")):
        values = runs[f"{column}_score"].to_numpy(float)
        yield Measure(f"{column}_score", f"{label} {name}", unit, better, "Score"), _alone(values)


def _loss(runs: pd.DataFrame, test: np.ndarray, unit: str, higher: bool) -> Column:
    """What a run lost against the valid dense run of the same seed; below zero it has gained."""
    reference = ((runs["method_name"] == REFERENCE) & runs["valid"]).to_numpy()
    dense = dict(zip(runs["seed"][reference], test[reference], strict=True))
    beside = np.array([dense.get(seed, np.nan) for seed in runs["seed"]])
    lost = beside - test if higher else test - beside
    return Measure("loss", "Lost against dense", score_unit_of_differences(unit), "lower", "Score"), _alone(lost)


def _sizes(part: Results) -> Iterator[Column]:
    runs = part.runs
    sizes = (
        ("kept_macs", "MACs kept", "% of dense", runs["kept_macs"] * 100),
        ("kept_params", "Parameters kept", "% of dense", runs["kept_params"] * 100),
        ("macs", "MACs", "million", runs["macs"] / 1e6),
        ("params", "Parameters", "thousand", runs["params"] / 1e3),
    )
    for name, label, unit, values in sizes:
        yield Measure(name, label, unit, "lower", "Size"), _alone(values.to_numpy(float))
    counted = set(runs["budget_cost"]) - {"macs", "params"}
    if len(counted) == 1:
        kind = counted.pop()
        kept = runs["kept"].where(runs["budget_cost"] == kind).to_numpy(float) * 100
        label = f"{COUNTED[kind][0].upper()}{COUNTED[kind][1:]} kept"
        yield Measure("kept", label, "% of dense", "lower", "Size"), _alone(kept)


def _inference(part: Results) -> Iterator[Column]:
    """Per runtime and batch size, the largest first: what a user pays for at a full batch is the first choice."""
    yield from _batches(part, part.inference, "", "")
    for runtime, precision in dict.fromkeys((s.runtime, s.precision) for r in part.records for s in r.served):
        served = [
            (record, found)
            for record in part.records
            for found in record.served
            if (found.runtime, found.precision) == (runtime, precision)
        ]
        rows = [
            {"key": record.key, "batch_size": m.batch_size} | inference_row(m)
            for record, s in served
            for m in s.inference
        ]
        where, suffix = f"{runtime} {precision}, ", f".{runtime}.{precision}"
        if rows:
            frame = pd.DataFrame(rows)
            frame[frame.columns.drop("key")] = frame[frame.columns.drop("key")].astype(float)
            yield from _batches(part, frame, where, suffix)
        name, unit, higher = score_of(part)
        scores = {
            record.key: record.score.shown(s.test_score)
            for record, s in served
            if record.score and s.test_score is not None
        }
        values = np.array([scores.get(key, np.nan) for key in part.runs["key"]], dtype=float)
        better: Better = "higher" if higher else "lower"
        yield Measure(f"test_score{suffix}", f"Test {name}, {where[:-2]}", unit, better, "Score"), _alone(values)


def _batches(part: Results, found: pd.DataFrame, where: str, suffix: str) -> Iterator[Column]:
    """What was measured in one runtime; `where` and `suffix` are empty for PyTorch itself."""
    for size in sorted(found["batch_size"].unique(), reverse=True):
        rows = found[found["batch_size"] == size]
        one = rows.drop_duplicates("key").set_index("key").reindex(part.runs["key"])
        at, group = f"{suffix}.{size:.0f}", f"Inference, {where}batch {size:.0f}"
        for kind in KINDS:
            label = f"Joules of inference, {kind}"
            joules = Measure(f"energy_{kind}{at}", label, "J per 1,000 images", "lower", group)
            yield joules, _bounded(one, f"energy_{kind}_j_per_1000_images")
            ratio = Measure(f"energy_ratio_{kind}{at}", label, "× dense", "lower", group)
            yield ratio, _bounded(one, f"energy_ratio_{kind}")
        latency = one["latency_ms"].to_numpy(float)
        yield Measure(f"latency_ms{at}", "Time of a batch", "ms", "lower", group), _alone(latency)
        ratio = Measure(f"latency_ratio{at}", "Time of a batch", "× dense", "lower", group)
        yield ratio, _bounded(one, "latency_ratio")


def _training(part: Results) -> Iterator[Column]:
    runs = part.runs
    for kind in KINDS:
        name = f"train_energy_{kind}_j"
        values = _bounded(runs, name) / 1000
        yield Measure(f"train_energy_{kind}", f"Joules of training, {kind}", "kJ", "lower", "Training"), values
    for kind in KINDS:
        grams = runs[f"train_co2_{kind}_g"].to_numpy(float)
        yield Measure(f"train_co2_{kind}", f"CO2e of training, {kind}", "g", "lower", "Training"), _alone(grams)
    minutes = runs["train_duration_s"].to_numpy(float) / 60
    yield Measure("train_minutes", "Time of training", "min", "lower", "Training"), _alone(minutes)
    macs = runs["train_forward_macs"].to_numpy(float) / 1e12
    yield Measure("train_macs", "MACs of training, forward", "trillion", "lower", "Training"), _alone(macs)


def _alone(values: np.ndarray) -> np.ndarray:
    """Figures without intervals."""
    return np.stack([values, np.full_like(values, np.nan), np.full_like(values, np.nan)], axis=1)


def _bounded(rows: pd.DataFrame, name: str) -> np.ndarray:
    return rows[[name, f"{name}_low", f"{name}_high"]].to_numpy(float)
