"""The study's differences between methods, seed by seed: `python -m tests.docs.paired` writes them into the page.

Machines are not mixed in any mean of joules or time. A difference in accuracy is one of two networks of one seed on one
machine, so that seeds from several machines may stand in one row.
"""

from __future__ import annotations

from pathlib import Path

from greenprune.bench.text import signed_points
from greenprune.plots.frame.interval import mean_with_interval
from greenprune.plots.frame.load import load

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
            mean, low, high = map(signed_points, mean_with_interval(difference.dropna().to_numpy()))
            lines.append([view, f"{one} − {other}", *each, f"{mean} [{low}, {high}]"])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    write(PAGE, COMMAND, table())
