"""What a network makes of a part of a data set."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from greenprune.bench.data.batches import evaluation_batches
from greenprune.bench.data.data import Dataset
from greenprune.bench.data.splits import Part
from greenprune.bench.tasks.task import Task
from greenprune.bench.text import plural
from greenprune.methods.ranks import together
from greenprune.methods.structure.modes import evaluating
from torch import nn

EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Outputs:
    """What was found on a split.

    Attributes:
        scores: by name, in the order of the task's; None where one is not finite.
        score: the main one.
        problem: why the outputs are none of the task, or the main score is no number; None where all is well.
    """

    scores: dict[str, float | None]
    score: float | None
    problem: str | None


@torch.no_grad()
def outputs_on(model: nn.Module, split: Part, data: Dataset, device: torch.device, task: Task) -> Outputs:
    """Look at all images of `split` in float32 and eval mode, so that anybody who loads the model finds the same.

    The modules are left in the mode they were in. Of several ranks of a training each looks at its share, and finds the same.
    """
    bad = torch.zeros((), dtype=torch.long, device=device)
    meter = task.meter(data.classes, device)
    own = split.chosen(np.arange(len(split))[together.rank() :: together.size()]) if together.several() else split
    wrong = None
    with evaluating(model):
        for x, y in evaluation_batches(own, batch_size=EVALUATION_BATCH, mean=data.mean, std=data.std, device=device):
            outputs = task.outputs(task.feed(model, x))
            if wrong := task.wrong_outputs(outputs, x, data.classes):
                break
            bad += (~outputs.isfinite()).flatten(1).any(1).sum()
            meter.update(outputs, y)
    if bool(together.any_of(torch.tensor(wrong is not None, device=device))):
        return Outputs({}, None, f"its outputs {wrong or 'are wrong in another rank'}")
    bad = together.summed(bad)
    if int(bad):
        return Outputs({}, None, f"its outputs for {int(bad):,} of {plural(len(split), 'image')} are not finite")
    with meter.of_all_ranks():
        found = {name: value if math.isfinite(value) else None for name, value in meter.scores().items()}
    score = found[task.score.name]
    problem = (
        None if score is not None else f"its {task.score.name} on {plural(len(split), 'image')} is not a finite number"
    )
    return Outputs(found, score, problem)


def evaluate(model: nn.Module, split: Part, data: Dataset, device: torch.device, task: Task) -> float | None:
    """The task's main score on `split`; None where it is no finite number, see `outputs_on`."""
    return outputs_on(model, split, data, device, task).score
