"""One look for every figure, and the same colour and marker for a method wherever it appears.

Colours are from Okabe and Ito's palette, which stays apart under the common kinds of colour blindness; controls are
grey. No two methods differ by colour alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Look:
    """How a method is drawn."""

    color: str
    marker: str


LOOKS: dict[str, Look] = {
    "dense": Look("#000000", "D"),
    "uniform": Look("#6E6E6E", "s"),
    "random": Look("#A6A6A6", "X"),
    "magnitude": Look("#0072B2", "^"),
    "magnitude_unstructured": Look("#56B4E9", "v"),
    "slimming": Look("#009E73", "p"),
    "depgraph": Look("#CC79A7", "<"),
    "dynamic": Look("#E69F00", ">"),
    "one_cycle": Look("#332288", "H"),
    "hesso": Look("#882255", "8"),
    "gated": Look("#D55E00", "o"),
    "gated_paper": Look("#661100", "*"),
    "shallow": Look("#8C7A00", "P"),
}
"""By registered name."""

SPARE_LOOKS = tuple(
    look
    for marker, color in product(
        ("h", "d", "P", "*"), ("#44AA99", "#AA4499", "#332288", "#882255", "#8C7A00", "#661100")
    )
    if (look := Look(color, marker)) not in LOOKS.values()
)
"""For methods that the table above does not know, and for further labels of one method."""

RC: dict[Any, Any] = {
    "font.size": 13,  # 6.5 points at half size
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture on every machine
    "axes.titlesize": 13,
    "axes.labelsize": 13,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 12,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.dpi": 160,
    "text.parse_math": False,  # names and commands are people's own: a $ is a dollar
    "svg.fonttype": "path",  # no font needed where it is shown
    "svg.hashsalt": "greenprune",  # the same ids every time, so that the same data gives the same file
}
"""Settings of matplotlib, applied with `matplotlib.rc_context` so that the caller's own stay as they are."""


def looks(methods: pd.DataFrame) -> dict[str, Look]:
    """The look of every label in the columns `method` (label) and `method_name` (registered name).

    A label that is a known name has its look; otherwise the first label of a known method has that method's look;
    all others get spare looks in alphabetical order, starting again when they run out.
    """
    names = dict(sorted(zip(methods["method"], methods["method_name"], strict=True)))
    found = {label: LOOKS[label] for label in names if label in LOOKS}
    for label, name in names.items():
        if label not in found and name in LOOKS and LOOKS[name] not in found.values():
            found[label] = LOOKS[name]
    return found | _spare(label for label in names if label not in found)


def _spare(labels: Iterable[str]) -> dict[str, Look]:
    return {label: SPARE_LOOKS[i % len(SPARE_LOOKS)] for i, label in enumerate(labels)}
