"""A run is done when its network, loaded again by another process, gives the same logits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from greenprune.bench import models
from greenprune.bench.data.load import load
from greenprune.bench.data.splits import Split
from greenprune.bench.errors import UserError
from greenprune.bench.records.store import save_model
from greenprune.bench.tasks.catalogue import make_task
from greenprune.bench.training.evaluation import outputs_on
from greenprune.bench.verify.reload import refuse_changed_by_storing
from torch import Tensor, nn

CPU = torch.device("cpu")


def test_a_network_that_was_stored_whole_is_the_same_and_another_one_is_not(tmp_path: Path) -> None:
    model = models.build("resnet20", 10, seed=0)
    images = torch.randn(4, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    save_model(model, tmp_path, name="resnet20", classes=10, input_shape=(3, 32, 32))
    refuse_changed_by_storing(model, tmp_path, images)
    assert model.training
    nn.init.ones_(model.fc.bias)  # what is in memory is not what is on the disk
    with pytest.raises(UserError, match="gives other outputs"):
        refuse_changed_by_storing(model, tmp_path, images)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be loaded from disk again"):
        refuse_changed_by_storing(model, tmp_path, images)


class Odd(nn.Module):
    def __init__(self, classes: int, bad: float) -> None:
        super().__init__()
        self.classes, self.bad = classes, bad

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.zeros(len(x), self.classes)
        logits[0, 0] = self.bad
        return logits


@pytest.mark.parametrize(
    ("classes", "bad", "problem"),
    [
        (10, 1.0, None),
        (10, float("nan"), "its outputs for 1 of 20 images are not finite"),
        (10, float("inf"), "its outputs for 1 of 20 images are not finite"),
        (11, 1.0, "its outputs are of the shape (20, 11) for 20 images of 10 classes"),
    ],
)
def test_outputs_that_are_no_logits_are_named(classes: int, bad: float, problem: str | None) -> None:
    data = load("digits")
    data = replace(data, test=Split(data.test.images[:20], data.test.targets[:20]))
    assert outputs_on(Odd(classes, bad), data.test, data, CPU, make_task("classification")).problem == problem
