"""The interface of a task: what the training loop and the evaluation ask of it.

task = make_task("classification")
task.begin(device, classes, shape)
loss, outputs = task.step(network, images, targets, label_smoothing, autocast)
loss.backward()
meter = task.meter(classes, device)      # over a pass of a split
meter.update(outputs, targets)
meter.scores()                           # {"accuracy": 0.93, "top-5 accuracy": 0.99}
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from greenprune.bench.data.pixels import VOID
from greenprune.bench.errors import UserError
from greenprune.bench.models.kinds.kind import Shape
from greenprune.bench.records.score import Score
from greenprune.bench.tasks.meter import Meter
from greenprune.bench.tasks.options import TaskOptions
from greenprune.bench.text import plural
from greenprune.methods import logits_of
from torch import Tensor, nn

Autocast = Callable[[], AbstractContextManager[Any]]


class Task(ABC):
    """What a network is trained for. Subclasses give a loss, a meter and the scores, and override what differs.

    Class attributes:
        Options: a model with the task's options.

    Attributes:
        scores: what is measured, the main score first; it decides in `tune`, and tables, figures and `compare` show it.
        smooths_labels: whether the loss knows what label smoothing is.
        void: of targets that are masks, the value of a pixel that counts for nothing; crops add such pixels.
    """

    Options: ClassVar[type[TaskOptions]] = TaskOptions
    scores: tuple[Score, ...]
    smooths_labels: bool = True
    void: int = VOID

    def __init__(self, options: TaskOptions | None = None) -> None:
        self.options: Any = self.Options() if options is None else options

    @property
    def score(self) -> Score:
        """The main score."""
        return self.scores[0]

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """The loss of a batch, a scalar.

        Args:
            outputs: what `outputs` picked, in float32.
            targets: as the data set gives them, on the same device.
            label_smoothing: of the recipe; 0 where `smooths_labels` is False.
        """

    @abstractmethod
    def meter(self, classes: int, device: torch.device, *, training: bool = False) -> Meter:
        """What takes in outputs and targets batch by batch and gives every one of `scores`.

        Args:
            training: it follows a training, so it is asked often and must take little; the main score is enough.
        """

    @abstractmethod
    def wrong_targets(self, targets: Tensor, images: Tensor, classes: int) -> str | None:
        """Why these targets of a batch of `images` (B, C, H, W) are none of this task, to follow "the targets ..."; or None."""

    def wrong_outputs(self, outputs: Tensor, images: Tensor, classes: int) -> str | None:
        """Why these outputs for a batch of `images` are none of this task, to follow "its outputs ..."; or None."""
        if tuple(outputs.shape) == (len(images), classes):
            return None
        wanted = f"{plural(len(images), 'image')} of {plural(classes, 'class', 'classes')}"
        return f"are of the shape {tuple(outputs.shape)} for {wanted}"

    def imitation(self, outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """How far the outputs are from those of a teacher, a scalar; for `distillation`. Both as `loss` sees them."""
        raise UserError("this task does not say how a teacher is imitated; allowed: a task that has `imitation`")

    def begin(self, device: torch.device, classes: int, shape: Shape) -> None:
        """Called once before `step`: load what the task needs besides the network.

        Args:
            shape: channels, height and width of an image.

        Raises:
            UserError: it cannot be had.
        """
        return

    def feed(self, network: nn.Module, inputs: Tensor) -> Any:
        """What the network returns for a batch of normalised images (B, C, H, W)."""
        return network(inputs)

    def outputs(self, raw: Any) -> Tensor:
        """The tensor that loss and scores are computed from, of what the network returns."""
        return logits_of(raw)

    def whole_loss(self, raw: Any, targets: Tensor, label_smoothing: float) -> Tensor:
        """The loss of all that the network returns; where there are several outputs, a task may weigh them."""
        return self.loss(self.outputs(raw).float(), targets, label_smoothing)

    def step(
        self, network: nn.Module, inputs: Tensor, targets: Tensor, label_smoothing: float, autocast: Autocast
    ) -> tuple[Tensor, Tensor]:
        """Forward pass and loss of a training step: the loss, and the detached outputs."""
        with autocast():
            raw = self.feed(network, inputs)
        return self.whole_loss(raw, targets, label_smoothing), self.outputs(raw).detach()

    def extra_macs(self, example: Tensor) -> int:
        """Multiply-accumulates that `step` executes for one image beside the network's: a teacher's, for example."""
        return 0

    def content(self) -> str | None:
        """SHA-256 of what the task loads (weights of a teacher); None where it loads nothing."""
        return None


def imitated_classes(outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean divergence of the teacher's classes from the outputs', per image or pixel, times the temperature squared.

    Args:
        outputs, teacher: logits (B, K, ...).
    """
    ours, theirs = (F.log_softmax(logits / temperature, dim=1) for logits in (outputs, teacher))
    return F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1).mean() * temperature**2


def described(targets: Tensor) -> str:
    """Shape and type, for a sentence."""
    return f"of the shape {tuple(targets.shape)} and type {str(targets.dtype).removeprefix('torch.')}"
