"""The study's differences between methods, seed by seed: `python -m tests.docs.paired` writes them into the page.

Machines are not mixed in any mean of joules or time. A difference in accuracy is one of two networks of one seed on one
machine, so that seeds from several machines may stand in one row.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from greenprune.bench.text import signed_points
from greenprune.plots.frame.load import load
from scipy import stats

from tests.docs.between import write

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "results.md"
FOLDERS = (ROOT / "results" / "study", ROOT / "results" / "study-xeon")
VIEWS = ("equal training energy", "equal images")
PAIRS = (("gated", "dense"), ("shallow", "dense"), ("gated", "shallow"))
COMMAND = "python -m tests.docs.paired"


def table() -> str:
    """Markdown: a row for each view and pair of methods, a column for each seed, the mean and its 95 % interval."""
    runs = load(FOLDERS).runs
    runs = runs[runs["valid"]]
    seeds = sorted(runs.loc[runs["method"] == "gated", "seed"].unique())
    lines = [["View", "", *(f"Seed {seed}" for seed in seeds), "Mean"], ["---", "---", *["---:"] * len(seeds), "---:"]]
    for view in VIEWS:
        scores = runs[runs["view"] == view].pivot(index="seed", columns="method", values="test_score")
        for one, other in PAIRS:
            difference = scores[one] - scores[other]
            each = [signed_points(difference[seed]) for seed in seeds]
            lines.append([view, f"{one} − {other}", *each, _mean(difference.dropna())])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _mean(values: pd.Series[float]) -> str:
    """With its 95 % interval (Student's t)."""
    half = float(stats.t.ppf(0.975, len(values) - 1)) * float(values.std(ddof=1)) / len(values) ** 0.5
    mean = float(values.mean())
    return f"{signed_points(mean)} [{signed_points(mean - half)}, {signed_points(mean + half)}]"


if __name__ == "__main__":
    write(PAGE, COMMAND, table())
