"""Real numbers for each image."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from greenprune.bench.records.score import Score
from greenprune.bench.tasks.meter import Meter
from greenprune.bench.tasks.options import RegressionOptions, TaskOptions
from greenprune.bench.tasks.task import Task, described
from greenprune.bench.text import plural
from torch import Tensor


class Regression(Task):
    """Mean squared error; its root over all numbers of all images, and the mean absolute error.

    Targets and outputs: (B, D) float.
    """

    Options: ClassVar[type[TaskOptions]] = RegressionOptions
    smooths_labels = False

    def __init__(self, options: TaskOptions | None = None) -> None:
        super().__init__(options)
        unit = self.options.unit
        self.scores = (
            Score(name="RMSE", unit=unit, higher_is_better=False),
            Score(name="mean absolute error", unit=unit, higher_is_better=False),
        )

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        return F.mse_loss(outputs, targets)

    def imitation(self, outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        return F.mse_loss(outputs, teacher)

    def meter(self, classes: int, device: torch.device, *, training: bool = False) -> Meter:
        from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError  # late: its import takes two seconds

        absolute = {} if training else {"mean absolute error": MeanAbsoluteError()}
        return Meter({"RMSE": MeanSquaredError(squared=False), **absolute}, device)

    def wrong_outputs(self, outputs: Tensor, images: Tensor, classes: int) -> str | None:
        if tuple(outputs.shape) == (len(images), classes):
            return None
        wanted = f"{plural(len(images), 'image')} with {plural(classes, 'number')} each"
        return f"are of the shape {tuple(outputs.shape)} for {wanted}"

    def wrong_targets(self, targets: Tensor, images: Tensor, classes: int) -> str | None:
        wanted = (len(images), classes)
        if tuple(targets.shape) != wanted or not targets.is_floating_point():
            return f"are {described(targets)}; allowed are numbers of the shape {wanted} and type float32"
        return None if bool(targets.isfinite().all()) else "hold numbers that are not finite"
