"""The table of the README, made from the records that it names; `python -m tests.docs.readme` writes it."""

from __future__ import annotations

from pathlib import Path

from greenprune.plots.frame.comparison import comparison, reading_order, rows_of
from greenprune.plots.frame.load import load
from greenprune.plots.tables.best import best_rows
from greenprune.plots.tables.columns import readable

from tests.docs.between import write

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
RECORDS, VIEW = ROOT / "results" / "study", "equal training energy"
COMMAND = "python -m tests.docs.readme"
COLUMNS = {  # heading in a table of all columns: heading here
    "Method": "Method",
    "Runs": "Runs",
    "Inference time, × dense, batch 64": "Inference time, × dense",
    "MACs kept, %": "MACs kept, %",
    "Test accuracy, %": "Test accuracy, %",
    "Against dense, points": "Against dense, points",
    "Training energy, × dense, modelled": "Training joules (modelled), × dense",
}


def table() -> str:
    """Markdown of the comparison in `RECORDS` of `VIEW`, in a few columns, the best of the budget in bold."""
    figures = comparison(load(RECORDS))
    figures = reading_order(figures[figures["view"] == VIEW].reset_index(drop=True))
    found = {column.heading: column for column in readable(figures)}
    columns = [found[heading] for heading in COLUMNS]
    best = [best_rows(figures, column.number) for column in columns]
    lines = [list(COLUMNS.values()), ["---" if column.number is None else "---:" for column in columns]]
    for place, row in enumerate(rows_of(figures)):
        texts = [column.text(row) for column in columns]
        lines.append([f"**{text}**" if place in bold else text for text, bold in zip(texts, best, strict=True)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    write(README, COMMAND, table())
