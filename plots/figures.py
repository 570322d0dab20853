"""The figures of a report: each a function of the `Results` of one comparison (see `Results.comparisons`), drawn from
the same numbers as the tables.

`FIGURES` lists them; `render` turns one into the bytes of a PNG or SVG file, the same bytes for the same data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import matplotlib as mpl
from matplotlib.figure import Figure

from plots.figures_accuracy import accuracy_against_macs, accuracy_in_words
from plots.figures_energy import energy_in_words, energy_per_method
from plots.frame import Results
from plots.style import RC


def _always(_: Results) -> bool:
    return True


@dataclass(frozen=True)
class FigureSpec:
    """A figure of the report.

    Attributes:
        name: the file name without its ending.
        title: for people.
        draw: from the results of one comparison.
        describe: the figure in words, for those who can't see it.
        caption: what is drawn and how to read it.
        applies: whether these results have anything to draw; a figure that does not apply is left out.
    """

    name: str
    title: str
    draw: Callable[[Results], Figure]
    describe: Callable[[Results], str]
    caption: str
    applies: Callable[[Results], bool] = _always


FIGURES = (
    FigureSpec(
        "accuracy_against_macs",
        "Accuracy against kept MACs",
        accuracy_against_macs,
        accuracy_in_words,
        "Small points are runs, large ones the mean over seeds with its standard deviation; lines connect the budgets "
        "of a method. The dashed line is the dense network, the band its standard deviation. Up and to the left "
        "is better.",
    ),
    FigureSpec(
        "energy_per_method",
        "Energy of training and inference",
        energy_per_method,
        energy_in_words,
        "Bars are means over seeds, dots are runs; shorter is better, and the dashed line is the dense network. "
        "Training: error bars are the bounds of each figure (quantisation of a counter, range of a model's "
        "assumptions), not the spread over seeds; the assumptions of a model are shared by all bars, so they move "
        "together. The runs were trained one after the other, so what else the machine did may differ between them. "
        "Inference: each pruned network took turns with the dense one in one process, and its energy is given as a "
        "multiple of that. Error bars are the 95 % interval of each run, where its record has one. The bar of the "
        "dense method is a dense network against another one: how far it is from 1 is noise.",
    ),
)


def render(figure: Figure, file_format: Literal["png", "svg"]) -> bytes:
    """The bytes of the figure's file; no date in it, so that it changes only with the data."""
    file = BytesIO()
    with mpl.rc_context(RC):
        figure.savefig(file, format=file_format, metadata={"Date": None} if file_format == "svg" else None)
    return file.getvalue()
