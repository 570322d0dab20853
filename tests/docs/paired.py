"""The study's differences between methods, seed by seed: `python -m tests.docs.paired` writes four tables into the page.

Machines are not mixed in any mean of joules or time. A difference in accuracy is one of two networks of one seed on one
machine, so that seeds from several machines may stand in one row.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from greenprune.bench.text import signed_points
from greenprune.plots.frame.interval import mean_with_interval
from greenprune.plots.frame.load import load

from tests.docs.between import write

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "results.md"
FOLDERS = (ROOT / "results" / "study", ROOT / "results" / "study-again")
C100 = (ROOT / "results" / "study-cifar100",)
VIEWS = ("equal training energy", "equal images")
PAIRS = (("gated", "dense"), ("shallow", "dense"), ("gated", "shallow"))
COMMAND = "python -m tests.docs.paired"


def table(folders: tuple[Path, ...]) -> str:
    """Markdown: a row for each view and pair of methods, a column for each seed, the mean and its 95 % interval."""
    runs = load(folders).runs
    runs = runs[runs["valid"]]
    seeds = sorted(runs.loc[runs["method"] == "gated", "seed"].unique())
    lines = [["View", "", *(f"Seed {seed}" for seed in seeds), "Mean"], ["---", "---", *["---:"] * len(seeds), "---:"]]
    for view in VIEWS:
        scores = runs[runs["view"] == view].pivot(index="seed", columns="method", values="test_score")
        for one, other in PAIRS:
            difference = (scores[one] - scores[other]).dropna()
            each = [signed_points(difference[seed]) if seed in difference else "" for seed in seeds]
            lines.append([view, f"{one} − {other}", *each, differences(difference)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def differences(found: pd.Series) -> str:
    """The mean, and with several seeds its 95 % interval."""
    mean, low, high = mean_with_interval(found.to_numpy())
    return signed_points(mean) + (f" [{signed_points(low)}, {signed_points(high)}]" if len(found) > 1 else "")


def others(folder: Path) -> str:
    """Markdown: a row for each method beside those of `PAIRS`, in each view against dense, and how far `gated` of the same
    seeds is ahead. A run that missed the budget is in brackets."""
    runs = load(folder).runs
    runs = runs[runs["view"].isin(VIEWS)]
    scores = runs.pivot(index=["view", "seed"], columns="method", values="test_score")
    met = runs.groupby(["view", "method"])["valid"].all()
    rows = []
    for method in sorted(set(scores) - {name for pair in PAIRS for name in pair}):
        cells = []
        for view in VIEWS:
            part = scores.loc[view]
            pair = [differences((part[a] - part[b]).dropna()) for a, b in ((method, "dense"), ("gated", method))]
            cells += [cell if met.get((view, method), True) else f"({cell})" for cell in pair]
        rows.append(f"| {method} | {' | '.join(cells)} |\n")
    heads = " | ".join(f"{view}: against dense | gated ahead by" for view in VIEWS)
    return f"| Method | {heads} |\n| --- |{' ---: |' * 2 * len(VIEWS)}\n{''.join(rows)}"


if __name__ == "__main__":
    write(PAGE, COMMAND, table(FOLDERS), "seeds")
    write(PAGE, COMMAND, table(C100), "seeds of CIFAR-100")
    write(PAGE, COMMAND, others(FOLDERS[0]), "others")
    write(PAGE, COMMAND, others(C100[0]), "others of CIFAR-100")
