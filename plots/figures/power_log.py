"""Power over time of one measured run, from the rows of its power log. Needs neither torch nor the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from greenprune.plots.figures.canvas import new_figure
from greenprune.plots.figures.style import RC, SPARE_LOOKS

FORMATS = ("png", "svg", "pdf")
LINE = {"measured": "-", "sampled": "-", "modelled": (0, (4, 1.5))}
"""Nobody measured what is dashed."""


@mpl.rc_context(RC)
def plot_power(columns: Mapping[str, Sequence[Any]], path: Path, title: str = "") -> Path:
    """Draw every source of a power log (`time_s`, `source`, `kind`, `power_w`, `phase`) as steps, watts over seconds.

    Sensors and models get a panel each: their watts are not of the same things, and are not of one size.
    Raises OSError, and ValueError for a suffix that is none of `FORMATS`.
    """
    if path.suffix.removeprefix(".").lower() not in FORMATS:
        raise ValueError(f"{path}: the suffix must be one of {', '.join('.' + f for f in FORMATS)}")
    rows = list(zip(*(columns[name] for name in ("source", "kind", "time_s", "power_w")), strict=True))
    panels_of = [
        list(dict.fromkeys(row[0] for row in rows if (row[1] == "modelled") == modelled)) for modelled in (False, True)
    ]
    panels_of = [names for names in panels_of if names] or [[]]
    figure, panels = new_figure(9.0, 1.2 + 2.4 * len(panels_of), rows=len(panels_of))
    number = 0
    for axes, names in zip(panels, panels_of, strict=True):
        for name in names:
            _, kinds, times_s, power_w = zip(*(row for row in rows if row[0] == name), strict=True)
            ends_s = np.array([0.0, *times_s])
            watts = np.array([np.nan if w is None else w for w in power_w], dtype=float)
            axes.stairs(
                watts,
                ends_s,
                baseline=None,
                label=f"{name} ({kinds[0]})",
                color=SPARE_LOOKS[number % len(SPARE_LOOKS)].color,
                linestyle=LINE[kinds[0]],
                linewidth=1.5,
            )
            number += 1
        axes.set_ylim(bottom=0)
        axes.set_ylabel("Power, W")
        if names:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        else:
            axes.text(0.5, 0.5, "too short: no power samples", ha="center", va="center", transform=axes.transAxes)
    panels[0].set_title(title)
    panels[-1].set_xlabel("Time, s")
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
    figure.savefig(path, metadata=metadata)
    return path
