"""What a user's own module may hold."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from greenprune.bench.records.score import Score
from greenprune.bench.tasks.meter import Meter
from greenprune.bench.tasks.options import TaskOptions
from greenprune.bench.tasks.regression import Regression
from torch import Tensor, nn

from tests.bench.tasks.cases import plain


class Peaks(Regression):
    """Judged by a figure of which more is better, with an option of its own."""

    class Options(TaskOptions):
        unit: str = "dB"
        power: float = 2.0

    def __init__(self, options: TaskOptions | None = None) -> None:
        super().__init__(options)
        self.scores = (Score(name="peak", unit="dB"),)

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        return (outputs - targets).abs().pow(self.options.power).mean()

    def meter(self, classes: int, device: torch.device, *, training: bool = False) -> Meter:
        from torchmetrics.image import PeakSignalNoiseRatio

        return Meter({"peak": PeakSignalNoiseRatio(data_range=1.0)}, device)


class Nowhere(Regression):
    """Its score is never a number."""

    def meter(self, classes: int, device: torch.device, *, training: bool = False) -> Meter:
        from torchmetrics.regression import MeanSquaredError

        return Meter({"RMSE": MeanSquaredError()}, device, lambda outputs, targets: (outputs * float("nan"), targets))


class Lacking:
    loss = F.mse_loss


class Without(Regression):
    scores = ()

    def __init__(self, options: TaskOptions | None = None) -> None:
        self.options = options


class Unmade(Regression):
    def __init__(self, options: TaskOptions | None = None) -> None:
        raise ValueError("no such thing")


def teacher(outputs: int) -> nn.Module:
    return plain(outputs)


number = 3
