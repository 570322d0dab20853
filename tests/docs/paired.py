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
FOLDERS = (ROOT / "results" / "study-choice", ROOT / "results" / "study-again")
BEFORE = (ROOT / "results" / "study", ROOT / "results" / "study-xeon")  # by the choice of units that was replaced
C100 = (ROOT / "results" / "study-cifar100",)
XEON, OTHERS = BEFORE[1], ROOT / "results" / "study-xeon-others"
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


def others() -> str:
    """Markdown: a row for each method of `OTHERS`, how far `gated` of `XEON` with the same seed is ahead in each view. A run
    that missed the budget is in brackets."""
    theirs, ours = load(OTHERS).runs, load(XEON).runs
    theirs, ours = theirs[theirs["method"] != "dense"], ours[ours["method"] == "gated"]
    scores = ours.set_index(["view", "seed"])["test_score"]
    found: dict[str, list[str]] = {}
    for view in VIEWS:
        for method, part in theirs.groupby("method"):
            cell = ""
            for run in part[part["view"] == view].dropna(subset="test_score").itertuples():
                cell = f"{run.test_score:.2f} | {signed_points(scores[view, run.seed] - run.test_score)}"
                cell = cell if run.valid else f"({cell.replace(' | ', ') | (')})"
            found.setdefault(str(method), []).append(cell or " | ")
    heads = " | ".join(f"{view}, % | gated ahead by" for view in VIEWS)
    lines = [f"| Method | {heads} |", f"| --- |{' ---: |' * 2 * len(VIEWS)}"]
    lines += [f"| {method} | {' | '.join(cells)} |" for method, cells in found.items()]
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    write(PAGE, COMMAND, table(FOLDERS), "seeds")
    write(PAGE, COMMAND, table(C100), "seeds of CIFAR-100")
    write(PAGE, COMMAND, table(BEFORE), "seeds before")
    write(PAGE, COMMAND, others(), "others")
