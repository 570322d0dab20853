"""One class of several for each pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from greenprune.bench.records.score import SHARE, Score
from greenprune.bench.tasks.meter import Meter
from greenprune.bench.tasks.options import SegmentationOptions, TaskOptions
from greenprune.bench.tasks.task import Task, described, imitated_classes
from torch import Tensor


class Segmentation(Task):
    """Cross-entropy of every pixel; intersection over union, a mean over the classes that occur, and the share of pixels.

    Targets: masks (B, H, W) int64 of class indices, `ignore_index` where a pixel counts for nothing. Outputs: logits
    (B, K, H, W), alone or as `out` of a dict, beside which `aux` is an output of its own with a loss of its own.
    """

    Options: ClassVar[type[TaskOptions]] = SegmentationOptions
    scores = (Score(name="mIoU", unit=SHARE), Score(name="pixel accuracy", unit=SHARE))

    def __init__(self, options: TaskOptions | None = None) -> None:
        super().__init__(options)
        self.void = self.options.ignore_index

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        total = F.cross_entropy(
            outputs, targets, ignore_index=self.void, label_smoothing=label_smoothing, reduction="sum"
        )
        return total / (targets != self.void).sum().clamp(min=1)  # a batch of nothing but ignored pixels has no loss

    def whole_loss(self, raw: Any, targets: Tensor, label_smoothing: float) -> Tensor:
        loss = super().whole_loss(raw, targets, label_smoothing)
        second = raw.get("aux") if isinstance(raw, Mapping) else None
        if isinstance(second, Tensor) and self.options.auxiliary_weight:
            loss = loss + self.options.auxiliary_weight * self.loss(second.float(), targets, label_smoothing)
        return loss

    def imitation(self, outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        return imitated_classes(outputs, teacher, temperature)

    def meter(self, classes: int, device: torch.device, *, training: bool = False) -> Meter:
        from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex  # late: two seconds

        union = MulticlassJaccardIndex(classes, average="macro", ignore_index=self.void, validate_args=False)
        pixels = {} if training else {
            "pixel accuracy": MulticlassAccuracy(classes, average="micro", ignore_index=self.void, validate_args=False)
        }  # fmt: skip
        return Meter({"mIoU": union, **pixels}, device, lambda outputs, targets: (outputs.argmax(1), targets))

    def wrong_outputs(self, outputs: Tensor, images: Tensor, classes: int) -> str | None:
        wanted = (len(images), classes, *images.shape[-2:])
        if tuple(outputs.shape) == wanted:
            return None
        return f"are of the shape {tuple(outputs.shape)}; segmentation needs {wanted}, a class for each pixel"

    def wrong_targets(self, targets: Tensor, images: Tensor, classes: int) -> str | None:
        wanted = (len(images), *images.shape[-2:])
        if tuple(targets.shape) != wanted or targets.dtype != torch.int64:
            return f"are {described(targets)}; allowed are masks of the shape {wanted} and type int64"
        known = targets[targets != self.void]
        if known.numel() and (int(known.min()) < 0 or int(known.max()) >= classes):
            return (
                f"lie from {int(known.min())} to {int(known.max())}; allowed are class indices from 0 to {classes - 1}, and "
                f"ignore_index = {self.void}"
            )
        return None
