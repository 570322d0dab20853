"""Whether a task, a data set, a recipe and a network go together, asked before anything is spent."""

from __future__ import annotations

import torch
from greenprune.bench.data.batches import evaluation_batches
from greenprune.bench.data.data import Dataset
from greenprune.bench.data.splits import Part
from greenprune.bench.errors import UserError
from greenprune.bench.tasks.task import Task
from greenprune.methods.structure.modes import evaluating
from torch import Tensor, nn

LOOKED_AT = 64
"""Images of a part whose targets are read with them."""


def refuse_data(name: str, task: Task, dataset: str, data: Dataset, label_smoothing: float) -> None:
    """See that the targets are those of the task.

    Args:
        name, dataset: of the task and of the data, for a sentence.

    Raises:
        UserError: they are not, or the recipe asks for what the task does not know.
    """
    if label_smoothing and not task.smooths_labels:
        raise UserError(f'training.label_smoothing = {label_smoothing:g}: task "{name}" has no labels; allowed: 0')
    for part in ("train", "holdout", "test"):
        images, targets = _known(getattr(data, part), data)
        if wrong := task.wrong_targets(targets, images, data.classes):
            raise UserError(f'task "{name}" on {dataset}: the targets of its {part} part {wrong}')


def _known(part: Part, data: Dataset) -> tuple[Tensor, Tensor]:
    """The targets that are known without decoding an image, with images that have a shape alone; else the first few of both."""
    if part.targets is not None:
        return torch.empty((len(part), *part.shape), device="meta"), part.targets
    size = min(LOOKED_AT, len(part))
    batches = evaluation_batches(part, batch_size=size, mean=data.mean, std=data.std, device=torch.device("cpu"))
    return next(batches)


@torch.no_grad()
def refuse_network(name: str, task: Task, model: str, network: nn.Module, images: Tensor, classes: int) -> None:
    """See that the outputs of a network are those of the task.

    Args:
        images: a few, (B, C, H, W), normalised, on the network's device.

    Raises:
        UserError: they are not.
    """
    with evaluating(network):
        raw = task.feed(network, images)
    try:
        outputs = task.outputs(raw)
    except ValueError as e:
        raise UserError(f'task "{name}" with {model}: {e}') from None
    if wrong := task.wrong_outputs(outputs, images, classes):
        raise UserError(f'task "{name}" with {model}: its outputs {wrong}')
