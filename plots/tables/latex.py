"""A `comparison` as a table for a paper: LaTeX with booktabs."""

from __future__ import annotations

import pandas as pd
from greenprune.bench.foreign import one_line
from greenprune.plots.frame.comparison import reading_order, rows_of
from greenprune.plots.tables.best import best_rows
from greenprune.plots.tables.columns import GROUPS, notes, readable

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "×": r"$\times$", "−": "$-$", "–": "--",
    "“": "``", "”": "''", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': r"\symbol{34}", "`": r"\symbol{96}",
}  # fmt: skip


def latex_text(table: pd.DataFrame) -> str:
    r"""One `table` for each group of columns; needs \usepackage{booktabs}. Best in bold, invalid runs in italics."""
    head = "% Needs \\usepackage{booktabs}. Bold: the best of each budget. Italics: invalid runs, kept out of that.\n"
    table = reading_order(table)
    groups = [group for group in GROUPS if any(column.group == group for column in readable(table))]
    return head + "\n".join(_table(table, group) for group in groups)


def escaped(text: str) -> str:
    """The text as LaTeX shows it literally, also at the beginning of a row, where `[` and `*` belong to the row before."""
    text = one_line(text)
    first = f"{{{text[0]}}}" if text[:1] in ("[", "*") else ""
    return first + "".join(SPECIAL.get(character, character) for character in text[len(first) // 3 :])


def _table(table: pd.DataFrame, group: str) -> str:
    columns = [column for column in readable(table) if column.group in ("", group)]
    best = [best_rows(table, column.number) for column in columns]
    lines = [
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{escaped(group)}. {escaped(notes(table))}}}",
        f"\\begin{{tabular}}{{{''.join('l' if column.number is None else 'r' for column in columns)}}}",
        "\\toprule",
        " & ".join(escaped(column.heading) for column in columns) + r" \\",
        "\\midrule",
    ]
    budget = None
    for place, row in enumerate(rows_of(table)):
        if budget is not None and row["budget"] != budget:
            lines.append("\\addlinespace")
        budget = row["budget"]
        cells = [escaped(column.text(row)) for column in columns]
        cells = [f"\\textbf{{{c}}}" if place in found else c for c, found in zip(cells, best, strict=True)]
        if not row["valid"]:
            cells = [f"\\textit{{{cell}}}" for cell in cells]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""])
