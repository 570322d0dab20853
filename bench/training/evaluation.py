"""What a network makes of a part of a data set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from greenprune.bench.data.batches import evaluation_batches
from greenprune.bench.data.data import Dataset, Split
from greenprune.methods import logits_of
from greenprune.methods.structure.modes import evaluating
from torch import nn

EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Outputs:
    """Attributes: accuracy (fraction); problem: why the outputs are no logits of these classes, None where they are."""

    accuracy: float
    problem: str | None


def evaluate(model: nn.Module, split: Split, data: Dataset, device: torch.device) -> float:
    """Accuracy (fraction) on `split`; see `outputs_on`."""
    return outputs_on(model, split, data, device).accuracy


@torch.no_grad()
def outputs_on(model: nn.Module, split: Split, data: Dataset, device: torch.device) -> Outputs:
    """Look at all images of `split` in float32 and eval mode, so that anybody who loads the model finds the same.

    The modules are left in the mode they were in.
    """
    correct, bad = torch.zeros((), dtype=torch.long, device=device), torch.zeros((), dtype=torch.long, device=device)
    problem = None
    with evaluating(model):
        for x, y in evaluation_batches(split, batch_size=EVALUATION_BATCH, mean=data.mean, std=data.std, device=device):
            logits = logits_of(model(x))
            if tuple(logits.shape) != (len(x), data.classes):
                problem = (
                    f"its outputs are of the shape {tuple(logits.shape)} for {len(x)} images of {data.classes} classes"
                )
                break
            bad += (~logits.isfinite()).any(1).sum()
            correct += (logits.argmax(1) == y).sum()
    if problem is None and int(bad):
        problem = f"its outputs for {int(bad):,} of {len(split):,} images are not finite"
    return Outputs(int(correct) / len(split.labels), problem)
