"""A comparison in a few sentences, with the numbers in them."""

from __future__ import annotations

from typing import Any

import pandas as pd
from greenprune.bench.energy.reading import KINDS
from greenprune.bench.records.record import Record
from greenprune.bench.records.score import decimals_of, in_percent
from greenprune.bench.records.tuning import Tuning
from greenprune.bench.text import listed, mean_sd, plural, signed, three_digits
from greenprune.plots.frame.comparison import COUNTED, REFERENCE, batch_label, rows_of
from greenprune.plots.frame.frame import Results
from greenprune.plots.frame.leader import leader
from greenprune.plots.frame.unsaved import in_words, unsaved, unsaved_where_served


def sentences(part: Results, table: pd.DataFrame) -> list[str]:
    """What was run, for each budget the pruned network of the best score and what it costs, and where less saved nothing.

    Args:
        table: the `comparison` of `part`.
    """
    runs = part.runs
    methods, seeds = plural(runs["method"].nunique(), "method"), plural(runs["seed"].nunique(), "seed")
    found = [f"{plural(len(runs), 'run')} of {methods} with {seeds} on {runs['machine'].iloc[0]}."]
    pruned = table[table["valid"] & (table["method_name"] != REFERENCE)]
    place = pruned["budget_cost"].map(list(COUNTED).index)
    for (_, _, kind), rows in pruned.groupby([place.rename("place"), "budget", "budget_cost"], sort=True):
        known = rows_of(rows[rows["test_score_mean"].notna()]) or rows_of(rows)
        best = leader(part, known, bool(rows["higher_is_better"].all())).best
        found.append(_score(best, len(rows), COUNTED[str(kind)]) + _cost(best, batch_label("large_batch", table)))
    found += in_words([*unsaved(table), *unsaved_where_served(part, table)])
    found += [
        _spread(record) for record in part.records if record.cost is not None and record.cost.sample_macs is not None
    ]
    return [*found, *map(_tuned, (tuning for _, tuning in part.tunings))]


def _spread(record: Record) -> str:
    """What single images cost, of a run whose network decides by the image."""
    assert record.cost is not None
    assert record.cost.sample_macs is not None
    found = record.cost.sample_macs
    return (
        f"{record.key} executes a part of the network that depends on the image: of {plural(found.images, 'test image')} one "
        f"takes {mean_sd(found.mean * 100, found.std * 100, 1)} % of the dense MACs, from {found.low * 100:.1f} to "
        f"{found.high * 100:.1f} %, gates included (± over images)."
    )


def _tuned(tuning: Tuning) -> str:
    joules = [
        f"{three_digits(energy_j / 1000)} kJ ({kind})"
        for kind in KINDS
        if (energy_j := tuning.energy_j(kind)) is not None
    ]
    cost = listed(
        [f"{plural(tuning.samples, 'training image')}", f"{three_digits(tuning.duration_s / 60)} minutes", *joules]
    )
    return (
        f"The options of {tuning.method} were searched at {tuning.budget * 100:g} % with seed {tuning.seed}, on held-out "
        f"images alone: {plural(len(tuning.trials), 'trial')} took {cost}."
    )


def _score(row: dict[str, Any], compared: int, cost: str) -> str:
    name, _, unit = str(row["score"]).partition(", ")
    decimals = decimals_of(row["test_score_mean"], row["score"])
    most = f"has the best {name} of the pruned networks: it" if compared > 1 else "is the only pruned network: it"
    figure = f"{mean_sd(row['test_score_mean'], row['test_score_sd'], decimals)} {unit}".rstrip()
    reached = f"{figure}" if in_percent(row["score"]) else f"{name} {figure}"
    lower = "" if row["higher_is_better"] else " (lower is better)"
    text = (
        f"At {row['budget'] * 100:g} % of the {cost}, {row['method']} {most} reaches {reached} on the test set{lower}"
    )
    mean, low, high = (row[f"difference_to_dense_{end}"] for end in ("mean", "low", "high"))
    points = "points" if in_percent(row["score"]) else unit
    if row["pairs"] == 0:
        return f"{text}."
    text += f", {signed(mean, decimals)} {points}".rstrip() + " against dense"
    if row["pairs"] == 1:
        return f"{text} (one seed: this may be chance)."
    verdict = "; it includes 0, so no difference is shown" if low <= 0 <= high else ""
    return f"{text} (95 % interval {signed(low, decimals)} to {signed(high, decimals)}{verdict})."


def _cost(row: dict[str, Any], at: str) -> str:
    """One sentence on training and inference next to dense, of what is known; empty when nothing is."""
    costs = [("the training time", row["train_duration_ratio_mean"])]
    costs += [(f"the training energy ({kind})", row[f"train_energy_{kind}_ratio_mean"]) for kind in KINDS]
    costs.append((f"the inference time ({at})", row["large_batch_latency_ratio_mean"]))
    costs += [(f"the inference energy ({at}, {kind})", row[f"large_batch_energy_ratio_{kind}_mean"]) for kind in KINDS]
    known = [f"{ratio:.2f}× {what}" for what, ratio in costs if ratio == ratio]  # NaN differs from itself
    return f" Relative to dense it takes {listed(known)}." if known else ""
