"""`gated` in every setting that was aimed at: `python -m tests.docs.settings` writes one table into the page of results.

The records of a setting may come from several machines, as in `paired`: differences, and what is relative to the dense network
of the same machine and seed, may stand in one mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from greenprune.plots.frame.comparison import REFERENCE
from greenprune.plots.frame.frame import RUN_COLUMNS
from greenprune.plots.frame.load import load

from tests.docs.between import write
from tests.docs.paired import PAGE, ROOT, VIEWS, differences

COMMAND = "python -m tests.docs.settings"
OURS = "gated"
JOULES = "train_energy_modelled_j"
NOT_STATIC = ("magnitude_unstructured", "dynamic")
"""Methods whose result is no smaller dense network: they stand in the tables of MACs alone."""


@dataclass(frozen=True)
class Setting:
    """What was asked for, and where the records are."""

    name: str
    folders: tuple[str, ...]
    view: str
    budget: float
    cost: str  # what the budget counts, as in the column budget_cost
    batch_size: int = 64  # where it counts time
    aim: str = ""


NOW = ("study", "study-again")
C100 = ("study-cifar100",)
MACS, SHORT = ("study-macs",), ("study-short",)
EQUAL_JOULES, IMAGES = VIEWS
SETTINGS = (
    Setting("CIFAR-10, equal joules", NOW, EQUAL_JOULES, 0.5, "latency", aim="+0.5; first by 1.0"),
    Setting("CIFAR-100, equal joules", C100, EQUAL_JOULES, 0.5, "latency", aim="+1.0; first by 1.0"),
    Setting("CIFAR-10", NOW, IMAGES, 0.5, "latency", aim="−0.9; 0.60 × the joules; first"),
    Setting("CIFAR-100", C100, IMAGES, 0.5, "latency"),
    Setting("CIFAR-10, a search half as long", ("study-early",), IMAGES, 0.5, "latency", aim="−0.9; 0.60 × the joules"),
    Setting("CIFAR-10, one image at a time", ("study-batch-1",), IMAGES, 0.55, "latency", 1, "−1.2"),
    Setting("CIFAR-10, one image at a time", ("study-batch-1",), IMAGES, 0.5, "latency", 1),
    Setting("CIFAR-10, ResNet-56", ("study-resnet56",), IMAGES, 0.5, "latency", aim="−0.5"),
    Setting("CIFAR-10", MACS, IMAGES, 0.7, "macs", aim="first"),
    Setting("CIFAR-10", MACS, IMAGES, 0.5, "macs", aim="−0.7; first"),
    Setting("CIFAR-10", MACS, IMAGES, 0.3, "macs", aim="first"),
    Setting("CIFAR-100", ("study-cifar100-macs",), IMAGES, 0.5, "macs", aim="−0.7; first"),
    Setting("CIFAR-10, equal training MACs", MACS, "equal training MACs", 0.5, "macs", aim="first"),
    Setting("CIFAR-10", ("study-params",), IMAGES, 0.5, "params", aim="−1.2"),
    Setting("9,000 images, 4 epochs", SHORT, IMAGES, 0.5, "macs", aim="not behind `random`"),
    Setting("9,000 images, 4 epochs", SHORT, IMAGES, 0.3, "macs", aim="not behind `random`"),
    Setting("digits", ("quickstart-seeds",), IMAGES, 0.5, "macs", aim="not behind"),
)
NOT_RUN = "not run"
COUNTED = {"latency": "time", "macs": "MACs", "params": "parameters"}
HEADS = (
    "Setting", "Kept of", "Aimed at", "Seeds", "gated − dense, points", "Nearest other", "gated − that",
    "Training joules of gated, × dense", "Time of gated, × dense",
)  # fmt: skip


def table() -> str:
    """Markdown: a row for each setting, also where it was not run."""
    lines = [list(HEADS), ["---"] * 3 + ["---:"] * 2 + ["---"] + ["---:"] * 3, *map(row, SETTINGS)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def row(setting: Setting) -> list[str]:
    """The cells of one setting."""
    asked = [setting.name, f"{100 * setting.budget:g} % of the {COUNTED[setting.cost]}", setting.aim]
    results = [load(path) for folder in setting.folders if (path := ROOT / "results" / folder).is_dir()]
    runs = pd.concat([r.runs for r in results]) if results else pd.DataFrame(columns=list(RUN_COLUMNS))
    runs = runs[runs["valid"].astype(bool) & (runs["view"] == setting.view) & ~runs["method_name"].isin(NOT_STATIC)]
    runs = runs[(runs["method"] == REFERENCE) | (runs["budget"] == setting.budget)]
    if OURS not in set(runs["method"]):
        return [*asked, NOT_RUN, *[""] * (len(HEADS) - len(asked) - 1)]
    scores = runs.drop_duplicates(["seed", "method"]).pivot(index="seed", columns="method", values="test_score")
    ours = scores[OURS].dropna()
    against = {other: (ours - scores[other]).dropna() for other in scores if other != OURS}
    rivals = {other: paired for other, paired in against.items() if other != REFERENCE and len(paired)}
    nearest = min(rivals, key=lambda other: rivals[other].mean(), default=None)
    seeds = " ".join(f"{seed}" for seed in ours.index)
    return [
        *asked,
        seeds,
        differences(against[REFERENCE]),
        "" if nearest is None else f"`{nearest}` ({len(rivals[nearest])} of {len(ours)})",
        "" if nearest is None else differences(rivals[nearest]),
        figure(joules(runs)),
        figure(time(pd.concat([r.inference for r in results]), setting)),
    ]


def joules(runs: pd.DataFrame) -> pd.Series:
    """Those of training, relative to the dense network of the same folder and seed."""
    dense = runs[runs["method"] == REFERENCE].set_index(["folder", "seed"])[JOULES]
    ours = runs[runs["method"] == OURS].set_index(["folder", "seed"])[JOULES]
    return (ours / dense).dropna()


def figure(found: pd.Series) -> str:
    """A mean of what is relative to dense."""
    return f"{found.mean():.2f}" if len(found) else ""


def time(measured: pd.DataFrame, setting: Setting) -> pd.Series:
    """That of a batch, relative to the dense network beside it."""
    ours = measured[measured["valid"] & (measured["method"] == OURS) & (measured["view"] == setting.view)]
    ours = ours[(ours["budget"] == setting.budget) & (ours["batch_size"] == setting.batch_size)]
    return ours["latency_ratio"].dropna()


if __name__ == "__main__":
    write(PAGE, COMMAND, table(), "settings")
