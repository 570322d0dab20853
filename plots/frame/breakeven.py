"""After how many inferences a method has paid back its training, in joules.

Two questions, because two people ask:

- `already_trained`: a dense network is there. Is it worth training a pruned one? The whole training of the pruned network
  is set against what each of its inferences saves.
- `instead`: neither is trained yet. Only what the pruned network's training costs *more* than the dense one's has to be paid
  back; when it costs less, it is ahead from the start.

Joules per inference are those of the large batch. What one inference saves is the dense network's joules beside this one,
times one minus the ratio measured side by side: so a machine that was busier in one run than in another does no harm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from greenprune.bench.energy.reading import KINDS, Kind
from greenprune.plots.frame.comparison import REFERENCE, comparison, rows_of, rows_that_fit
from greenprune.plots.frame.frame import Results

DRAWS = 4000
SEED = 0
Z_95 = 1.959964


@dataclass(frozen=True)
class Interval:
    """A number of inferences and its 95 % interval; infinite: never."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class BreakEven:
    """One method at one budget.

    Attributes:
        training_j, dense_training_j: joules of the training, mean over seeds; `dense_training_j` NaN without dense.
        inference_j, dense_inference_j: joules of one inference, side by side, mean over seeds.
        training_draws_j, dense_training_draws_j, inference_draws_j, dense_inference_draws_j: what the same may be, draw by
            draw (the intervals are percentiles over these): over seeds by Student's t, of a single seed by its blocks.
        already_trained, instead: see the module. `instead` is None without a dense training.
    """

    method: str
    method_name: str
    budget: float
    runs: int
    kind: Kind
    training_j: float
    dense_training_j: float
    inference_j: float
    dense_inference_j: float
    training_draws_j: np.ndarray
    dense_training_draws_j: np.ndarray
    inference_draws_j: np.ndarray
    dense_inference_draws_j: np.ndarray
    already_trained: Interval
    instead: Interval | None

    def saved_j(self, inferences: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Joules saved against the dense network after so many inferences, both trained: mean, low and high."""
        extra = self.dense_training_j - self.training_j
        mean = extra + inferences * (self.dense_inference_j - self.inference_j)
        draws = (self.dense_training_draws_j - self.training_draws_j)[:, None] + inferences[None, :] * (
            self.dense_inference_draws_j - self.inference_draws_j
        )[:, None]
        low, high = np.percentile(draws, [2.5, 97.5], axis=0)
        return mean, low, high


@lru_cache(maxsize=4)  # the figure asks, and its words do
def break_even(results: Results) -> tuple[BreakEven, ...]:
    """One entry per pruned method and budget of one comparison, for the most trustworthy kind that has all figures.

    Where networks are many, of each method the smallest budget: see `rows_that_fit`.
    """
    for kind in KINDS:
        found = [entry for entry in (_entry(group, kind) for group in _groups(results, kind)) if entry is not None]
        if found:
            return tuple(found)
    return ()


def inferences_until(training_j: np.ndarray, saved_j: np.ndarray) -> np.ndarray:
    """Inferences after which `training_j` is paid back; 0 when it is not above 0, infinite when nothing is saved."""
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(saved_j > 0, training_j / saved_j, np.inf)
    return np.where(training_j <= 0, 0.0, needed)


@dataclass(frozen=True)
class _Group:
    """Per seed: joules of training and of one inference of the pruned network, and of the dense network's training."""

    rows: pd.DataFrame
    dense_training_j: pd.Series[float]


def _groups(results: Results, kind: Kind) -> list[_Group]:
    runs, measured = results.runs[results.runs["valid"]], results.inference
    large = measured[measured["batch_size"] == measured["batch_size"].max()].set_index("key")
    dense = runs[runs["method_name"] == REFERENCE]
    dense_training_j = dense.drop_duplicates("seed").set_index("seed")[f"train_energy_{kind}_j"].dropna()
    groups = []
    shown = {(row["method"], row["budget"]) for row in rows_of(rows_that_fit(comparison(results)))}
    for named, rows in runs[runs["method_name"] != REFERENCE].groupby(["method", "budget"], sort=True):
        if named not in shown:
            continue
        joined = rows.join(
            large[
                [
                    f"energy_ratio_{kind}",
                    f"energy_ratio_{kind}_low",
                    f"energy_ratio_{kind}_high",
                    f"dense_energy_{kind}_j_per_1000_images",
                ]
            ],
            on="key",
        )
        groups.append(_Group(joined, dense_training_j))
    return groups


def _entry(group: _Group, kind: Kind) -> BreakEven | None:
    rows = group.rows
    training = rows[f"train_energy_{kind}_j"].to_numpy(dtype=float)
    ratio = rows[f"energy_ratio_{kind}"].to_numpy(dtype=float)
    dense_inference = rows[f"dense_energy_{kind}_j_per_1000_images"].to_numpy(dtype=float) / 1000
    if np.isnan(training).any() or np.isnan(ratio).any() or np.isnan(dense_inference).any():
        return None
    dense_training = group.dense_training_j.reindex(rows["seed"]).to_numpy(dtype=float)
    paired = not np.isnan(dense_training).any()
    by_seed = np.stack([training, dense_training, dense_inference * ratio, dense_inference], axis=1)
    generator = np.random.default_rng(SEED)
    draws = _means(by_seed, generator) if len(rows) > 1 else _of_blocks(by_seed, rows.iloc[0], kind, generator)
    training_draws, dense_training_draws, inference_draws, dense_inference_draws = draws.T
    inference_j, dense_inference_j = float((dense_inference * ratio).mean()), float(dense_inference.mean())
    saved_j, saved_draws = dense_inference_j - inference_j, dense_inference_draws - inference_draws
    instead = None
    if paired:
        extra = training_draws - dense_training_draws
        instead = _interval(float(training.mean() - dense_training.mean()), saved_j, extra, saved_draws)
    first = rows.iloc[0]
    return BreakEven(
        method=first["method"],
        method_name=first["method_name"],
        budget=float(first["budget"]),
        runs=len(rows),
        kind=kind,
        training_j=float(training.mean()),
        dense_training_j=float(dense_training.mean()),
        inference_j=inference_j,
        dense_inference_j=dense_inference_j,
        training_draws_j=training_draws,
        dense_training_draws_j=dense_training_draws,
        inference_draws_j=inference_draws,
        dense_inference_draws_j=dense_inference_draws,
        already_trained=_interval(float(training.mean()), saved_j, training_draws, saved_draws),
        instead=instead,
    )


def _means(by_seed: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """What the means over seeds may be, (DRAWS, figures): Student's t with the seeds' covariance, figures drawn together.

    Args:
        by_seed: (seeds, figures), two seeds or more.
    """
    seeds = len(by_seed)
    spread = generator.normal(size=(DRAWS, seeds)) @ (by_seed - by_seed.mean(axis=0))
    scale = np.sqrt(seeds * generator.chisquare(seeds - 1, size=DRAWS))
    return by_seed.mean(axis=0) + spread / scale[:, None]


def _of_blocks(by_seed: np.ndarray, row: pd.Series[Any], kind: Kind, generator: np.random.Generator) -> np.ndarray:
    """The same of a single seed, whose inference varies as its side-by-side blocks say; not at all where they say nothing."""
    low, high = float(row[f"energy_ratio_{kind}_low"]), float(row[f"energy_ratio_{kind}_high"])
    sd_log = math.log(high / low) / (2 * Z_95) if 0 < low <= high else 0.0
    draws = np.repeat(by_seed, DRAWS, axis=0)
    draws[:, 2] *= np.exp(generator.normal(size=DRAWS) * sd_log)
    return draws


def _interval(training_j: float, saved_j: float, training_draws_j: np.ndarray, saved_draws_j: np.ndarray) -> Interval:
    draws = np.sort(inferences_until(training_draws_j, saved_draws_j))
    low, high = (float(draws[int(share * (len(draws) - 1))]) for share in (0.025, 0.975))  # no interpolation: inf
    value = float(inferences_until(np.asarray([training_j]), np.asarray([saved_j]))[0])
    return Interval(value, low, high)
