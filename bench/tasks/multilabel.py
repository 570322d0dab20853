"""Any number of labels for each image."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from greenprune.bench.records.score import SHARE, Score
from greenprune.bench.tasks.meter import Meter
from greenprune.bench.tasks.task import Task, described
from torch import Tensor

THRESHOLDS = 200
"""While a training is followed, precision and recall are taken at so many thresholds alone."""


class Multilabel(Task):
    """Binary cross-entropy of every label; mean average precision over the labels that some image has.

    Targets: (B, K) float, 0 or 1. Outputs: logits (B, K).
    """

    scores = (Score(name="mAP", unit=SHARE),)

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        smooth = targets * (1 - label_smoothing) + label_smoothing / 2
        return F.binary_cross_entropy_with_logits(outputs, smooth)

    def imitation(self, outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        wanted = (teacher / temperature).sigmoid()
        return F.binary_cross_entropy_with_logits(outputs / temperature, wanted) * temperature**2

    def meter(self, classes: int, device: torch.device, *, training: bool = False) -> Meter:
        from torchmetrics.classification import MultilabelAveragePrecision  # late: its import takes two seconds

        class MeanAveragePrecision(MultilabelAveragePrecision):
            """Over the labels with a positive: of the others precision is not defined, and torchmetrics counts them as 0."""

            def compute(self) -> Tensor:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # what it says of them
                    each = super().compute()
                if self.thresholds is None:
                    present = torch.cat(list(self.target)).sum(0) > 0
                else:
                    present = self.confmat[0, :, 1].sum(-1) > 0
                return each[present].mean()

        metric = MeanAveragePrecision(
            classes, average="none", thresholds=THRESHOLDS if training else None, validate_args=False
        )
        return Meter({"mAP": metric}, device, lambda outputs, targets: (outputs.sigmoid(), targets.long()))

    def wrong_targets(self, targets: Tensor, images: Tensor, classes: int) -> str | None:
        wanted = (len(images), classes)
        if tuple(targets.shape) != wanted or not targets.is_floating_point():
            return f"are {described(targets)}; allowed are zeros and ones of the shape {wanted} and type float32"
        if not bool(((targets == 0) | (targets == 1)).all()):
            low, high = float(targets.min()), float(targets.max())
            return f"lie from {low:g} to {high:g}; allowed are zeros and ones"
        return None
