"""Numbers from papers. They stay in a table of their own: their networks, recipes and baselines are not ours."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pandas as pd

PUBLISHED = Path(str(files("greenprune.results") / "published.csv"))

COLUMNS = {
    "dataset": "data set",
    "network": "network",
    "method": "method, as its paper calls it",
    "flops_cut_percent": "share of the floating-point operations removed, as stated",
    "baseline_percent": "test accuracy of the paper's own dense network; empty where not known to us",
    "pruned_percent": "test accuracy of its pruned network; empty where not known to us",
    "stated_delta_points": "difference as stated; empty where none is",
    "source": "the paper that prints the figure (which may have re-run another paper's method)",
    "note": "anything else",
    "accuracies_checked": "yes, second-hand or no: whether the accuracies were read again at their source, and where",
}
"""Every column of results/published.csv with its meaning."""


def load_published(path: Path = PUBLISHED) -> pd.DataFrame:
    """The table, with `delta_points` recomputed from the two accuracies where both are there, else NaN.

    An empty frame where there is no file (an installed package has none).
    """
    columns = [*COLUMNS, "delta_points"]
    if not path.is_file():
        return pd.DataFrame(columns=columns)
    table = pd.read_csv(path, keep_default_na=True)
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise ValueError(f"{path}: lacks the column {missing[0]}")
    table = table.fillna({"note": "", "accuracies_checked": ""})
    table["delta_points"] = (table["pruned_percent"] - table["baseline_percent"]).round(2)
    return table[columns]
