"""Tables over methods and budgets: the numbers (`comparison`) and how they are written down.

Results -> comparison() -> one row per method x budget, numbers
             |-> csv_text()                       the numbers as they are
             '-> readable() -> markdown_text()    a few columns, rounded, for people
                               terminal_table()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from scipy import stats

from bench.record import write_atomically
from plots.frame import GROUP_COLUMNS, KINDS, Results
from plots.text import bounded, mean_sd, signed_points, three_digits

UNKNOWN = float("nan")
REFERENCE = "dense"

BATCHES = ("batch_1", "large_batch")
"""Inference is compared at batch 1 and at the largest batch that a comparison measured (column large_batch_size)."""


def comparison(results: Results) -> pd.DataFrame:
    """One row per folder, suite, machine, method, budget and validity: figures over the seeds.

    A figure `x` becomes `x_mean` and `x_sd` (n - 1 in the denominator; NaN with one run). Where every run has bounds,
    `x_low` and `x_high` are the means of them. A figure that a run of the row lacks is NaN for the whole row: a mean
    over some of the runs would look like a mean over all of them.

    `difference_to_dense_points_*` and `*_ratio_*` are taken seed by seed against the valid dense run of the same seed
    (`pairs` of them); `difference_to_dense_points_low` and `_high` are the 95 % interval of the paired mean
    difference (Student's t). Inference ratios come from the side-by-side measurement within each run.

    Invalid runs have rows of their own (`valid` is False), and never serve as the reference.
    """
    return pd.DataFrame([row for part in results.comparisons() for row in _rows(part)])


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
    ranked = runs.assign(other=runs["method_name"] != REFERENCE, invalid=~runs["valid"])
    for (_, method, budget, invalid), group in ranked.groupby(["other", "method", "budget", "invalid"], sort=True):
        by_seed = group.sort_values("seed").set_index("seed")
        measured = part.inference[part.inference["key"].isin(group["key"])]
        row: dict[str, Any] = {name: group[name].iloc[0] for name in GROUP_COLUMNS}
        row |= {"method": method, "method_name": group["method_name"].iloc[0], "budget": budget, "valid": not invalid}
        row |= {"runs": len(group), "seeds": " ".join(str(seed) for seed in by_seed.index)}
        row |= _over_seeds("kept_macs_percent", by_seed["kept_macs"] * 100)
        row |= _over_seeds("kept_params_percent", by_seed["kept_params"] * 100)
        row |= _over_seeds("test_accuracy_percent", by_seed["test_accuracy"] * 100)
        row |= _against_dense(by_seed, dense)
        for kind in KINDS:
            name = f"train_energy_{kind}_j"
            row |= _with_bounds(name, name, group)
            row |= _over_seeds(f"train_co2_{kind}_g", group[f"train_co2_{kind}_g"])
        row["large_batch_size"] = large
        for batch, size in zip(BATCHES, (1, large), strict=True):
            row |= _inference(batch, measured[measured["batch_size"] == size], len(group))
        yield row


def _against_dense(by_seed: pd.DataFrame, dense: pd.DataFrame) -> dict[str, Any]:
    """Accuracy difference and training ratios to the dense runs of the same seeds; both frames indexed by seed."""
    pairs = by_seed.index.intersection(dense.index)
    ours, reference = by_seed.loc[pairs], dense.loc[pairs]
    name = "difference_to_dense_points"
    difference = (ours["test_accuracy"] - reference["test_accuracy"]) * 100
    row = {"pairs": len(pairs), **_over_seeds(name, difference)}
    half_width = UNKNOWN
    if len(pairs) > 1:
        half_width = float(stats.t.ppf(0.975, len(pairs) - 1)) * row[f"{name}_sd"] / len(pairs) ** 0.5
    row |= {f"{name}_low": row[f"{name}_mean"] - half_width, f"{name}_high": row[f"{name}_mean"] + half_width}
    for column in ("train_samples", "train_forward_macs", "train_duration_s"):
        row |= _over_seeds(column, by_seed[column])
        row |= _over_seeds(f"{column.removesuffix('_s')}_ratio", ours[column] / reference[column])
    for kind in KINDS:
        column = f"train_energy_{kind}_j"
        row |= _over_seeds(f"train_energy_{kind}_ratio", ours[column] / reference[column])
    return row


def _inference(batch: str, measured: pd.DataFrame, runs: int) -> dict[str, float]:
    """Latency and energy at one batch size; all NaN unless each of the `runs` has measured it."""
    if len(measured) != runs:
        measured = measured.reindex(range(runs))  # no such rows: every figure becomes unknown
    row = _over_seeds(f"{batch}_latency_ms", measured["latency_ms"])
    row |= _with_bounds(f"{batch}_latency_ratio", "latency_ratio", measured)
    for kind in KINDS:
        for column in (f"energy_{kind}_j_per_1000_images", f"energy_ratio_{kind}"):
            row |= _with_bounds(f"{batch}_{column}", column, measured)
    return row


def _over_seeds(name: str, values: pd.Series[float]) -> dict[str, float]:
    """Mean and standard deviation; the mean is NaN when a value is, the standard deviation also with one value."""
    return {f"{name}_mean": values.mean(skipna=False), f"{name}_sd": values.std(ddof=1, skipna=False)}


def _with_bounds(name: str, column: str, rows: pd.DataFrame) -> dict[str, float]:
    """As `_over_seeds`, with the means of the lower and of the upper bounds."""
    bounds = {f"{name}_{end}": rows[f"{column}_{end}"].mean(skipna=False) for end in ("low", "high")}
    return _over_seeds(name, rows[column]) | bounds


GROUPS = ("Accuracy and size", "Training", "Inference")


@dataclass(frozen=True)
class Column:
    """A column for people.

    Attributes:
        heading: with the unit.
        cell: the text for one row of `comparison`.
        number: what the column is sorted by (a column of `comparison`); None sorts by the text.
        short: the heading in a terminal; None: there is no room for the column there.
        group: one of `GROUPS`, for a page that shows a table for each; "" names the row and belongs to all of them.
        brief: the text in a terminal, where `cell` is too wide.
    """

    heading: str
    cell: Callable[[dict[str, Any]], str]
    number: str | None = None
    short: str | None = None
    group: str = ""
    brief: Callable[[dict[str, Any]], str] | None = None


def readable(table: pd.DataFrame) -> list[Column]:
    """The columns to show people for a `comparison`: no column that says the same, or nothing, in every row."""
    columns = [
        Column(name.capitalize(), lambda row, name=name: row[name], short=name.capitalize())  # type: ignore[misc]
        for name in GROUP_COLUMNS
        if table[name].nunique() > 1
    ]
    result, training, inference = GROUPS
    columns += [
        Column("Method", _method, short="Method"),
        Column("Budget, %", lambda row: f"{row['budget'] * 100:g}", "budget", "Budget\n%"),
        Column("Runs", lambda row: str(row["runs"]), "runs", "Runs"),
        _mean("MACs kept, %", "kept_macs_percent", 1, result, "MACs\nkept %"),
        _mean("Params kept, %", "kept_params_percent", 1, result),
        _mean("Test accuracy, %", "test_accuracy_percent", 2, result, "Test\nacc. %"),
        Column(
            "Against dense, points",
            _difference,
            "difference_to_dense_points_mean",
            "vs dense\npoints",
            result,
            brief=_brief_difference,
        ),
        _mean("Training samples, × dense", "train_samples_ratio", 2, training),
        _mean("Training MACs, × dense", "train_forward_macs_ratio", 2, training),
        _mean("Training time, × dense", "train_duration_ratio", 2, training, "Train\ntime ×"),
    ]
    kinds = [kind for kind in KINDS if table[f"train_energy_{kind}_j_mean"].notna().any()]
    for kind in kinds:
        name, joules = f"Training energy, × dense, {kind}", f"Training energy, kJ, {kind}"
        short = f"Train\nenergy ×\n{kind}" if kind == kinds[0] else None  # KINDS starts with the most trustworthy one
        columns.append(_mean(name, f"train_energy_{kind}_ratio", 2, training, short))
        columns.append(Column(joules, _kilojoules(kind), f"train_energy_{kind}_j_mean", group=training))
    for batch in reversed(BATCHES):
        at = batch_label(batch, table)
        name, number = f"Inference time, × dense, {at}", f"{batch}_latency_ratio_mean"
        short = None if batch == "batch_1" else f"Infer.\ntime ×\n{at}"
        columns.append(Column(name, _latency_ratio(batch), number, short, inference, brief=_brief_ratio(batch)))
        for kind in KINDS:
            name = f"Inference energy, × dense, {at}, {kind}"
            columns.append(_mean(name, f"{batch}_energy_ratio_{kind}", 2, inference))
    return [column for column in columns if column.number is None or table[column.number].notna().any()]


def batch_label(batch: str, table: pd.DataFrame) -> str:
    """How to call one of `BATCHES` in a table: "batch 1", "batch 250", or "large batch" where sizes differ."""
    sizes = [1] if batch == "batch_1" else list(table["large_batch_size"].dropna().unique())
    return f"batch {sizes[0]:.0f}" if len(sizes) == 1 else "large batch"


def _mean(heading: str, name: str, decimals: int, group: str, short: str | None = None) -> Column:
    def cell(row: dict[str, Any]) -> str:
        return mean_sd(row[f"{name}_mean"], row[f"{name}_sd"], decimals)

    return Column(heading, cell, f"{name}_mean", short, group)


def _method(row: dict[str, Any]) -> str:
    return row["method"] if row["valid"] else f"{row['method']} (invalid)"


def _latency_ratio(batch: str) -> Callable[[dict[str, Any]], str]:
    """Over several runs with ± sd, of a single run with the interval of its own blocks."""

    def cell(row: dict[str, Any]) -> str:
        mean, sd, low, high = (row[f"{batch}_latency_ratio_{end}"] for end in ("mean", "sd", "low", "high"))
        return mean_sd(mean, sd, 2) if row["runs"] > 1 else bounded(mean, low, high, lambda ratio: f"{ratio:.2f}")

    return cell


def _brief_ratio(batch: str) -> Callable[[dict[str, Any]], str]:
    def cell(row: dict[str, Any]) -> str:
        return mean_sd(row[f"{batch}_latency_ratio_mean"], row[f"{batch}_latency_ratio_sd"], 2)

    return cell


def _kilojoules(kind: str) -> Callable[[dict[str, Any]], str]:
    def cell(row: dict[str, Any]) -> str:
        mean, low, high = (row[f"train_energy_{kind}_j_{end}"] / 1000 for end in ("mean", "low", "high"))
        return bounded(mean, low, high, three_digits)

    return cell


def _difference(row: dict[str, Any]) -> str:
    if row["method_name"] == REFERENCE:
        return "ref."
    mean, low, high = (row[f"difference_to_dense_points_{end}"] for end in ("mean", "low", "high"))
    return bounded(mean, low, high, signed_points)


def _brief_difference(row: dict[str, Any]) -> str:
    mean = row["difference_to_dense_points_mean"]
    return "ref." if row["method_name"] == REFERENCE else bounded(mean, UNKNOWN, UNKNOWN, signed_points)


def csv_text(table: pd.DataFrame) -> str:
    """A `comparison` as CSV: unrounded, units in the column names, empty where a figure is unknown."""
    return table.to_csv(index=False, lineterminator="\n")


def markdown_text(table: pd.DataFrame) -> str:
    """The readable columns of a `comparison` in Markdown, with the sentence that explains their signs."""
    columns = readable(table)
    lines = [[column.heading for column in columns], ["---" if c.number is None else "---:" for c in columns]]
    lines += [[column.cell(row) for column in columns] for row in rows_of(table)]
    text = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"{text}\n\n{legend(table)}\n"


def legend(table: pd.DataFrame) -> str:
    """What the signs in the readable table mean."""
    several = "± is the standard deviation over runs with different seeds. " if (table["runs"] > 1).any() else ""
    return (
        f"{several}Brackets after a difference or a time are 95 % intervals, after kJ the bounds of the figure. "
        "×: relative to the dense network; training seed by seed, inference side by side in one process."
    )


def terminal_table(results: Results) -> Table:
    """The most important columns, for a terminal."""
    numbers = comparison(results)
    rows = rows_of(numbers)
    table = Table(
        caption=_caption(results, numbers),
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    columns = [(column, column.short) for column in readable(numbers) if column.short]
    cells = [[(column.brief or column.cell)(row).replace("± ", "±") for column, _ in columns] for row in rows]
    for (column, heading), texts in zip(columns, zip(*cells, strict=True), strict=True):
        if column.number is None:
            table.add_column(heading, overflow="fold")
        else:  # lines break between numbers, never within one
            widest = max(len(word) for text in (heading, *texts) for word in text.split())
            table.add_column(heading, justify="right", overflow="fold", min_width=widest)
    for row, line in zip(rows, cells, strict=True):
        table.add_row(*line, style=None if row["valid"] else "red")
    return table


def _caption(results: Results, table: pd.DataFrame) -> str:
    """The legend, and a count of problems so that a table can't look better than the results are."""
    counts = pd.Series([problem.kind for problem in results.problems], dtype=str).value_counts(sort=False)
    problems = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    explained = "×: relative to the dense network. Intervals are in table.md."
    return explained + (f"\nProblems: {problems}." if problems else "")


WRITERS: dict[str, Callable[[pd.DataFrame], str]] = {"table.csv": csv_text, "table.md": markdown_text}
"""File name -> its text from a `comparison`. A LaTeX table is one more entry here."""


def write_tables(results: Results, out: Path) -> list[Path]:
    """Write every table into the folder `out`, atomically; returns the paths."""
    table = comparison(results)
    return [write_atomically(out / name, text(table)) for name, text in WRITERS.items()]
