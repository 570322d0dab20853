"""Tables: how a `comparison` is written down.

comparison() -> csv_text()                       the numbers as they are
             '-> readable() -> markdown_text()   rounded, for people: what matters most, then the rest
                               terminal_table()  the most important of them
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from greenprune.bench.foreign import csv_cell, markdown_cell, one_line
from greenprune.bench.records.stored import write_atomically
from greenprune.bench.text import listed
from greenprune.plots.frame.comparison import comparison, reading_order, rows_of
from greenprune.plots.frame.frame import Results
from greenprune.plots.frame.problems import counted
from greenprune.plots.frame.unsaved import in_words, unsaved
from greenprune.plots.tables.best import best_rows
from greenprune.plots.tables.columns import Column, Detail, notes, readable
from greenprune.plots.tables.latex import latex_text
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text


def csv_text(table: pd.DataFrame) -> str:
    """A `comparison` as CSV: unrounded, units in the column names, empty where a figure is unknown."""
    return table.map(csv_cell).to_csv(index=False, lineterminator="\n")


def markdown_text(table: pd.DataFrame) -> str:
    """The readable columns of a `comparison` in Markdown, with the sentences that explain their signs.

    Two tables, or the lines would be too long to read: what matters most, then batch 1 and absolute joules.
    """
    table = reading_order(table)
    columns = readable(table)
    first = [column for column in columns if column.first]
    rest = [column for column in columns if not column.group or not column.first]
    tables = [_markdown(table, part) for part in (first, rest) if any(column.group for column in part)]
    return "\n\n".join([*tables, notes(table, markdown_cell)]) + "\n"


def _markdown(table: pd.DataFrame, columns: list[Column]) -> str:
    best = [best_rows(table, column.number) for column in columns]
    lines = [
        [markdown_cell(column.heading) for column in columns],
        ["---" if c.number is None else "---:" for c in columns],
    ]
    for place, row in enumerate(rows_of(table)):
        cells = zip((_markdown_cell(column, row) for column in columns), best, strict=True)
        lines.append([f"**{text}**" if place in found else text for text, found in cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _markdown_cell(column: Column, row: dict[str, Any]) -> str:
    """Names are other people's; figures are ours."""
    return markdown_cell(column.text(row)) if column.number is None else column.text(row)


NARROW = 60
"""Columns of a terminal that has no room for all of the table: last ones are left out before a name is broken."""

LONGEST_WHOLE = 24  # characters of a name that is not broken there


@dataclass(frozen=True)
class TerminalTable:
    """The most important columns, with as much detail as fits into the terminal with a line for each row."""

    table: pd.DataFrame
    problems: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unlimited = options.update(max_width=10_000)
        for detail, gap in product(sorted(Detail, reverse=True), (2, 1)):
            table = self._drawn(detail, gap)
            if Measurement.get(console, unlimited, table).maximum <= options.max_width:
                break
        left_out = 0
        while options.max_width < NARROW and _least_width(table) > options.max_width and len(table.columns) > 2:
            left_out += 1
            table = self._drawn(detail, gap, left_out)
        yield table
        yield Text(self._caption(detail, left_out))

    def _drawn(self, detail: Detail, gap: int, left_out: int = 0) -> Table:
        """With `gap` spaces between columns, at least one, and without the last columns."""
        table = Table(box=SIMPLE_HEAD, padding=(0, gap - 1, 0, 0), pad_edge=False, show_edge=False)
        columns = [(column, column.short) for column in readable(self.table) if column.short]
        columns = columns[: max(2, len(columns) - left_out)]
        rows = rows_of(self.table)
        cells = [[one_line(column.text(row, detail)).replace("± ", "±") for column, _ in columns] for row in rows]
        for (column, heading), texts in zip(columns, zip(*cells, strict=True), strict=True):
            if column.number is None:
                widest = max(len(text) for text in texts)
                whole = min(widest, LONGEST_WHOLE) if left_out else None  # rather a name than the last column
                table.add_column(heading, overflow="fold", min_width=whole)
            else:  # should even the last form be too wide, lines break between numbers, never within one
                widest = max(len(word) for text in (heading, *texts) for word in text.split())
                table.add_column(heading, justify="right", overflow="fold", min_width=widest)
        for row, line in zip(rows, cells, strict=True):
            table.add_row(*line, style=None if row["valid"] else "red")
        return table

    def _caption(self, detail: Detail, columns_left_out: int = 0) -> str:
        """What the signs mean, what was left out for want of width, where less saved nothing, and the problems."""
        several = bool((self.table["runs"] > 1).any())
        said = ["×: relative to dense (training: same seed; inference: side by side)."]
        if detail >= Detail.SPREAD and several:
            said.append("±: standard deviation over seeds.")
        if detail >= Detail.INTERVALS:
            said.append("Brackets: 95 % intervals.")
        left_out = ["standard deviations"] if detail < Detail.SPREAD and several else []
        left_out += ["95 % intervals"] if detail < Detail.INTERVALS else []
        left_out += ["all columns"] if columns_left_out else []
        if left_out:
            said.append(f"For {listed(left_out)}: table.md, or a wider terminal.")
        told = in_words(unsaved(self.table), one_line)
        return "\n" + "\n".join([" ".join(said), *told, *([self.problems] if self.problems else [])])


def _least_width(table: Table) -> int:
    """Of a table whose names are whole and whose numbers are not broken."""
    texts = [[str(cell) for cell in column.cells] for column in table.columns]
    least = [
        column.min_width or min(LONGEST_WHOLE, max(map(len, cells), default=1))
        for column, cells in zip(table.columns, texts, strict=True)
    ]
    return sum(least) + len(least) * table.padding[1]


def terminal_table(results: Results) -> RenderableType:
    """What to print at the end; with a count of problems, so that a table can't look better than the results are."""
    problems = f"Problems: {counted(results.problems)}." if results.problems else ""
    if not results.comparisons():
        return f"There is no finished run. {problems}".strip()
    return TerminalTable(reading_order(comparison(results)), problems)


def write_tables(results: Results, out: Path) -> list[Path]:
    """Write every table into the folder `out`, atomically; returns the paths."""
    table = comparison(results)
    writers = {"table.csv": csv_text, "table.md": markdown_text, "table.tex": latex_text}
    return [write_atomically(out / name, text(table)) for name, text in writers.items()]
