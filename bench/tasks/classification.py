"""One class of several for each image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from greenprune.bench.records.score import SHARE, Score
from greenprune.bench.tasks.meter import Meter
from greenprune.bench.tasks.task import Task, described, imitated_classes
from torch import Tensor

FEW = 5
"""With so many classes or fewer a class among the first five says nothing."""


class Classification(Task):
    """Cross-entropy; the share of images whose class is first, and whose class is among the first five.

    Targets: class indices (B,) int64, or probabilities of all classes (B, K) float, of which the largest is the class.
    Outputs: logits (B, K).
    """

    scores = (Score(name="accuracy", unit=SHARE), Score(name="top-5 accuracy", unit=SHARE))

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing)

    def imitation(self, outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        return imitated_classes(outputs, teacher, temperature)

    def meter(self, classes: int, device: torch.device, *, training: bool = False) -> Meter:
        from torchmetrics.classification import MulticlassAccuracy  # late: its import takes two seconds

        first = MulticlassAccuracy(classes, average="micro", validate_args=False)
        several = {} if training or classes <= FEW else {
            "top-5 accuracy": MulticlassAccuracy(classes, average="micro", top_k=5, validate_args=False)
        }  # fmt: skip
        return Meter({"accuracy": first, **several}, device, _with_indices)

    def wrong_targets(self, targets: Tensor, images: Tensor, classes: int) -> str | None:
        if targets.is_floating_point():
            if tuple(targets.shape) == (len(images), classes):
                return None
            return (
                f"are {described(targets)}; allowed are class indices ({len(images)},) of type int64, or probabilities "
                f"of the shape ({len(images)}, {classes})"
            )
        if tuple(targets.shape) != (len(images),) or targets.dtype != torch.int64:
            return f"are {described(targets)}; allowed are class indices ({len(images)},) of type int64"
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= classes:
            return f"lie from {low} to {high}; allowed are class indices from 0 to {classes - 1}"
        return None


def _with_indices(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return outputs, targets.argmax(1) if targets.is_floating_point() else targets
