"""The columns of a `comparison` that people see: rounded, headed with their units, as detailed as there is room for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import pandas as pd
from greenprune.bench.energy.reading import KINDS
from greenprune.bench.records.score import decimals_of, in_percent
from greenprune.bench.text import bounded, listed, mean_sd, plural, signed, three_digits
from greenprune.plots.frame.comparison import BATCHES, COUNTED, REFERENCE, batch_label
from greenprune.plots.frame.frame import GROUP_COLUMNS
from greenprune.plots.frame.rows import PRETRAINED
from greenprune.plots.frame.unsaved import in_words, unsaved

UNKNOWN = float("nan")
GROUPS = ("Score and size", "Training", "Inference", "Inference, absolute")


class Detail(IntEnum):
    """How much a cell says."""

    FIGURE = 0
    SPREAD = 1  # and the standard deviation over seeds
    INTERVALS = 2  # and the 95 % interval or the bounds


@dataclass(frozen=True)
class Column:
    """A column for people.

    Attributes:
        heading: with the unit.
        cell: the text for one row of `comparison`.
        number: what the column is sorted by (a column of `comparison`); None sorts by the text.
        short: the heading in a terminal; None: there is no room for the column there.
        group: one of `GROUPS`, for a page that shows a table for each; "" names the row and belongs to all of them.
        first: part of the first table, where a page has one table of what matters most and one of the rest.
    """

    heading: str
    cell: Callable[[dict[str, Any], Detail], str]
    number: str | None = None
    short: str | None = None
    group: str = ""
    first: bool = True

    def text(self, row: dict[str, Any], detail: Detail = Detail.INTERVALS) -> str:
        return self.cell(row, detail)


def readable(table: pd.DataFrame) -> list[Column]:
    """The columns to show people for a `comparison`: no column that says the same, or nothing, in every row."""
    columns = [
        Column(name.capitalize(), lambda row, _, name=name: row[name], short=name.capitalize())  # type: ignore[misc]
        for name in GROUP_COLUMNS
        if table[name].nunique() > 1
    ]
    result, training, inference, absolute = GROUPS
    columns += [
        Column("Method", _method, short="Method"),
        Column("Budget, %", _budget(table), "budget", "Budget\n%"),
        Column("Runs", lambda row, _: str(row["runs"]), "runs", "Runs"),
        _mean("MACs kept, %", "kept_macs_percent", 1, result, "MACs\nkept %", spread_from=Detail.INTERVALS),
        _mean("Params kept, %", "kept_params_percent", 1, result),
        *_scores(table, result),
        _mean("Training samples, × dense", "train_samples_ratio", 2, training),
        _mean("Training MACs, × dense", "train_forward_macs_ratio", 2, training),
        Column("Tuning MACs, × one dense training", _tuning, "tuning_macs_ratio", group=training),
        _mean("Training time, × dense", "train_duration_ratio", 2, training, "Train\ntime ×"),
    ]
    kinds = [kind for kind in KINDS if table[f"train_energy_{kind}_j_mean"].notna().any()]
    for kind in kinds:
        name, joules = f"Training energy, × dense, {kind}", f"Training energy, kJ, {kind}"
        short = f"Train\nenergy ×\n{kind}" if kind == kinds[0] else None  # KINDS starts with the most trustworthy one
        columns.append(_mean(name, f"train_energy_{kind}_ratio", 2, training, short))
        columns.append(Column(joules, _kilojoules(kind), f"train_energy_{kind}_j_mean", group=training, first=False))
    for batch in reversed(BATCHES):
        at = batch_label(batch, table)
        first = batch != "batch_1"
        short = f"Infer.\ntime ×\n{at}" if first else None
        columns.append(_ratio(f"Inference time, × dense, {at}", f"{batch}_latency_ratio", inference, short, first))
        for kind in KINDS:
            name = f"Inference energy, × dense, {at}, {kind}"
            columns.append(_ratio(name, f"{batch}_energy_ratio_{kind}", inference, first=first))
            name, number = f"energy_{kind}_j_per_1000_images", f"{batch}_energy_{kind}_j_per_1000_images_mean"
            heading = f"Inference energy, J per 1,000 images, {at}, {kind}"
            columns.append(Column(heading, _joules_beside_dense(batch, name), number, group=absolute, first=False))
    return [column for column in columns if column.number is None or table[column.number].notna().any()]


def _scores(table: pd.DataFrame, group: str) -> list[Column]:
    """The score on the test set, and its difference to dense, under what the score is called where all rows have the same."""
    labels = list(table["score"].unique())
    if len(labels) > 1:
        names = ("Test score", "Test\nscore", "Against dense, in the unit of the score", "vs\ndense")
    else:
        short = "acc. %" if labels[0] == "accuracy, %" else str(labels[0]).replace(", ", " ")
        lower = "" if table["higher_is_better"].all() else " (lower is better)"
        unit = "points" if in_percent(labels[0]) else labels[0]
        against = "vs\ndense\npoints" if in_percent(labels[0]) else "vs\ndense"
        names = (f"Test {labels[0]}{lower}", f"Test\n{short}", f"Against dense, {unit}{lower}", against)
    return [
        Column(names[0], _score, "test_score_mean", names[1], group),
        Column(names[2], _difference, "difference_to_dense_mean", names[3], group),
    ]


def _score(row: dict[str, Any], detail: Detail) -> str:
    mean, sd = row["test_score_mean"], row["test_score_sd"] if detail >= Detail.SPREAD else UNKNOWN
    return mean_sd(mean, sd, decimals_of(mean, row["score"]))


def _mean(
    heading: str, name: str, decimals: int, group: str, short: str | None = None, spread_from: Detail = Detail.SPREAD
) -> Column:
    def cell(row: dict[str, Any], detail: Detail) -> str:
        return mean_sd(row[f"{name}_mean"], row[f"{name}_sd"] if detail >= spread_from else UNKNOWN, decimals)

    return Column(heading, cell, f"{name}_mean", short, group)


def _ratio(heading: str, name: str, group: str, short: str | None = None, first: bool = True) -> Column:
    return Column(heading, lambda row, detail: ratio_text(row, name, detail), f"{name}_mean", short, group, first)


def ratio_text(row: dict[str, Any], name: str, detail: Detail = Detail.INTERVALS) -> str:
    """A ratio measured side by side: over several runs with ± sd, of a single run with the interval of its blocks."""
    mean, sd, low, high = (row[f"{name}_{end}"] for end in ("mean", "sd", "low", "high"))
    if row["runs"] > 1 or detail < Detail.INTERVALS:
        return mean_sd(mean, sd if detail >= Detail.SPREAD else UNKNOWN, 2)
    return bounded(mean, low, high, lambda ratio: f"{ratio:.2f}")


def _method(row: dict[str, Any], _: Detail) -> str:
    return row["method"] if row["valid"] else f"{row['method']} (invalid)"


def _tuning(row: dict[str, Any], _: Detail) -> str:
    return f"{row['tuning_macs_ratio']:.2f} ({plural(row['tuning_trials'], 'trial')})" if row["tuning_trials"] else "0"


def _budget(table: pd.DataFrame) -> Callable[[dict[str, Any], Detail], str]:
    """In per cent; with what it counts where that is not the same in every row, and not MACs."""
    mixed = table.loc[table["method_name"] != REFERENCE, "budget_cost"].nunique() > 1

    def cell(row: dict[str, Any], _: Detail) -> str:
        counted = f" ({COUNTED[row['budget_cost']]})" if mixed and row["budget_cost"] != "macs" else ""
        return f"{row['budget'] * 100:g}{counted}"

    return cell


def _kilojoules(kind: str) -> Callable[[dict[str, Any], Detail], str]:
    def cell(row: dict[str, Any], _: Detail) -> str:
        mean, low, high = (row[f"train_energy_{kind}_j_{end}"] / 1000 for end in ("mean", "low", "high"))
        return bounded(mean, low, high, three_digits)

    return cell


def _joules_beside_dense(batch: str, name: str) -> Callable[[dict[str, Any], Detail], str]:
    """Absolute joules never without the dense network's at the same time: only these two may be compared."""

    def cell(row: dict[str, Any], _: Detail) -> str:
        mean, low, high = (row[f"{batch}_{name}_{end}"] for end in ("mean", "low", "high"))
        dense = row[f"{batch}_dense_{name}_mean"]
        beside = f"; dense {three_digits(dense)}" if dense == dense else ""  # NaN differs from itself
        return bounded(mean, low, high, three_digits) + beside

    return cell


def _difference(row: dict[str, Any], detail: Detail) -> str:
    if row["method_name"] == REFERENCE:
        return "ref."
    mean, low, high = (row[f"difference_to_dense_{end}"] for end in ("mean", "low", "high"))
    decimals = decimals_of(row["test_score_mean"], row["score"])
    return bounded(mean, low, high if detail >= Detail.INTERVALS else UNKNOWN, lambda value: signed(value, decimals))


def legend(table: pd.DataFrame, write: Callable[[str], str] = str) -> str:
    """What the signs in the readable table mean. `write`: how names are to be written there."""
    several = "± is the standard deviation over runs with different seeds. " if (table["runs"] > 1).any() else ""
    together = table["inference_together"]
    measured = "in one process"
    if together.any():
        where = (
            ""
            if together.all()
            else f" of {listed([write(name) for name in sorted(set(table.loc[together, 'method']))])}"
        )
        measured = f"all networks{where} in one process (inference.json)"
    return (
        f"{several}Brackets after a difference or a × are 95 % intervals, after joules the bounds of the figure. "
        "×: relative to the dense network; training seed by seed, inference side by side, " + measured + ". Joules of "
        "different runs were measured at different times: compare networks by the ×. What follows “dense” after joules "
        "of inference is the dense network's figure, measured beside this one."
        + (
            " Tuning: what `greenprune tune` took to choose the method's options, not part of the training; 0: they are "
            "the suite's or the defaults, whatever it took to find those."
            if table["tuning_trials"].notna().any()
            else ""
        )
        + (
            " Pretrained: training starts from weights that were trained before."
            if table["model"].str.endswith(PRETRAINED).any()
            else ""
        )
        + (" Bold: the best of a budget." if table["budget"].duplicated().any() else "")
    )


def notes(table: pd.DataFrame, write: Callable[[str], str] = str) -> str:
    """What stands below a table that is read alone: its `legend`, and where fewer MACs saved nothing."""
    return " ".join([legend(table, write), *in_words(unsaved(table), write)])
