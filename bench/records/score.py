"""What a network is judged by: a figure with its unit, and which way it is better."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field

SHARE = "fraction"
"""The unit of what is stored from 0 to 1 and shown in per cent."""


class Score(BaseModel):
    """A kind of figure, as a task defines it.

        mean_iou = Score(name="mIoU", unit="fraction")
        mean_iou.label         # "mIoU, %"
        mean_iou.text(0.7312)  # "73.12%"

    Attributes:
        name: for people: "accuracy", "RMSE".
        unit: of the stored figure: "dB", "m"; "fraction" is stored from 0 to 1 and shown in per cent; "" where it has none.
        higher_is_better: the direction.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=40, pattern=r"^[^\s,$][^,$\n\r]*$")
    unit: str = Field("", max_length=20, pattern=r"^[^,$\n\r]*$")
    higher_is_better: bool = True

    @property
    def share(self) -> bool:
        """Whether it is stored as a fraction and shown in per cent."""
        return self.unit == SHARE

    @property
    def label(self) -> str:
        """The heading of a column or an axis: "accuracy, %", "RMSE"."""
        unit = "%" if self.share else self.unit
        return f"{self.name}, {unit}" if unit else self.name

    def shown(self, value: float) -> float:
        """A stored figure in the unit of `label`."""
        return value * 100 if self.share else value

    def text(self, value: float, decimals: int | None = None) -> str:
        """A stored figure with its unit: "93.21%", "0.3127 m"; by default with as many decimals as its size asks for."""
        figure = figure_text(self.shown(value), self.label, decimals)
        if self.share:
            return f"{figure}%"
        return f"{figure} {self.unit}" if self.unit else figure

    def better(self, value: float, than: float) -> bool:
        return value > than if self.higher_is_better else value < than


def in_percent(label: str) -> bool:
    """Whether figures with this label are in per cent, so that their differences are points."""
    return label.endswith(", %")


def decimals_of(value: float, label: str) -> int:
    """Two of per cent; of anything else so many that four digits are seen."""
    if in_percent(label):
        return 2
    if not math.isfinite(value) or value == 0:
        return 4
    return min(9, max(0, 3 - math.floor(math.log10(abs(value)))))


def figure_text(value: float, label: str, decimals: int | None = None) -> str:
    """A figure in the unit of `label`, without the unit."""
    return f"{value:.{decimals_of(value, label) if decimals is None else decimals}f}"
