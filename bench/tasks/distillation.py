"""Learning from a teacher what another task asks for (Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural
Network")."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from greenprune.bench import models
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened
from greenprune.bench.models.definition import weights_hash
from greenprune.bench.models.kinds.kind import Shape
from greenprune.bench.paths import path_of
from greenprune.bench.records.store import load_model
from greenprune.bench.tasks.meter import Meter
from greenprune.bench.tasks.options import DistillationOptions, TaskOptions
from greenprune.bench.tasks.task import Autocast, Task
from greenprune.methods import count_macs
from torch import Tensor, nn


class Distillation(Task):
    """The loss of another task, and how far the outputs are from the teacher's; the scores are the other task's.

    What the teacher computes in a step is charged to the run's ledger, for dense as for every other method.

    Args:
        of: the other task, made of `options.of`.
    """

    Options: ClassVar[type[TaskOptions]] = DistillationOptions

    def __init__(self, options: TaskOptions, of: Task) -> None:
        super().__init__(options)
        self.of = of
        self.scores = of.scores
        self.smooths_labels = of.smooths_labels
        self.void = of.void
        self._teacher: nn.Module | None = None

    def begin(self, device: torch.device, classes: int, shape: Shape) -> None:
        self.of.begin(device, classes, shape)
        teacher = self._loaded(classes, shape).to(device).eval()
        self._teacher = teacher.requires_grad_(False)

    def _loaded(self, classes: int, shape: Shape) -> nn.Module:
        name = self.options.teacher
        path = path_of(name, f'teacher = "{shortened(name)}"')
        if ":" in name and not path.exists():
            return models.build(name, classes, seed=0, shape=shape)
        try:
            return load_model(path, trust=True)  # the user's own suite names it
        except UserError as e:
            raise UserError(
                f'teacher = "{name}": {e}; allowed are the folder of a finished run with its network, and '
                "package.module:factory"
            ) from None

    @property
    def teacher(self) -> nn.Module:
        assert self._teacher is not None, "begin() comes first"
        return self._teacher

    def step(
        self, network: nn.Module, inputs: Tensor, targets: Tensor, label_smoothing: float, autocast: Autocast
    ) -> tuple[Tensor, Tensor]:
        with autocast():
            raw = self.feed(network, inputs)
            with torch.no_grad():
                wanted = self.outputs(self.feed(self.teacher, inputs)).float()
        outputs = self.outputs(raw)
        if outputs.shape != wanted.shape:
            raise UserError(
                f'teacher = "{self.options.teacher}": gives outputs of the shape {tuple(wanted.shape)}, and the network '
                f"{tuple(outputs.shape)}; allowed is a teacher of the same task and classes"
            )
        weight = self.options.weight
        loss = weight * self.of.imitation(outputs.float(), wanted, self.options.temperature)
        if weight < 1:
            loss = loss + (1 - weight) * self.of.whole_loss(raw, targets, label_smoothing)
        return loss, outputs.detach()

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        return self.of.loss(outputs, targets, label_smoothing)

    def meter(self, classes: int, device: torch.device, *, training: bool = False) -> Meter:
        return self.of.meter(classes, device, training=training)

    def wrong_targets(self, targets: Tensor, images: Tensor, classes: int) -> str | None:
        return self.of.wrong_targets(targets, images, classes)

    def wrong_outputs(self, outputs: Tensor, images: Tensor, classes: int) -> str | None:
        return self.of.wrong_outputs(outputs, images, classes)

    def feed(self, network: nn.Module, inputs: Tensor) -> Any:
        return self.of.feed(network, inputs)

    def outputs(self, raw: Any) -> Tensor:
        return self.of.outputs(raw)

    def extra_macs(self, example: Tensor) -> int:
        return self.of.extra_macs(example) + count_macs(self.teacher, example)

    def content(self) -> str | None:
        return weights_hash(self.teacher)
