"""The example of segmentation, tiny: masks are of what is drawn, and the U-Net is trained to the end and cut."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from greenprune.bench.data.batches import Batches
from greenprune.bench.data.data import Dataset
from greenprune.bench.data.splits import Split
from greenprune.bench.suite.file import load_suite
from greenprune.bench.suite.recipe import Training
from greenprune.bench.tasks.catalogue import make_task
from greenprune.bench.training.evaluation import outputs_on
from greenprune.bench.training.loop import train
from greenprune.methods import count_macs, registry

from tests.bench.training.test_loop import Meter

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    import examples.segmentation.shapes as shapes

    return shapes


def test_the_suite_speaks_of_what_is_there(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    suite = load_suite("examples/segmentation/shapes.toml")
    assert suite.task.name == "segmentation"
    parts = example.pictures()
    images, masks = parts["train"].tensors
    assert images.shape == (example.COUNTS["train"], 3, example.SIDE, example.SIDE)
    assert set(masks.unique().tolist()) == set(range(len(parts["class_names"])))


def test_pictures_are_always_the_same_and_each_another(example: ModuleType) -> None:
    (images, masks), (again, same) = example.drawn(4, 0), example.drawn(4, 0)
    assert torch.equal(images, again)
    assert torch.equal(masks, same)
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images, example.drawn(4, 1)[0])


@pytest.mark.parametrize("method", ["dense", "gated"])
def test_the_network_is_trained_to_the_end(example: ModuleType, method: str) -> None:
    splits = [Split(*example.drawn(count, seed)) for seed, count in enumerate((16, 8, 8))]
    middle = (0.5, 0.5, 0.5)
    data = Dataset("shapes", 4, *splits, middle, middle)
    batches = Batches(data.train, batch_size=4, mean=middle, std=middle, device="cpu", seed=0, augment=())
    recipe: dict[str, Any] = {"epochs": 2, "batch_size": 4, "learning_rate": 0.05, "precision": "float32"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = example.UNet(4, width=4)
    image = torch.zeros(2, 3, example.SIDE, example.SIDE)
    dense_macs, task, meter = count_macs(network, image), make_task("segmentation"), Meter()
    pruner = registry()[method](keep=0.6, steps=2 * len(batches), tolerance=0.2, seed=0)
    done = train(pruner, network, data, batches, task, Training(**recipe), CPU, meter)  # type: ignore[arg-type]
    share = count_macs(done.model, image) / dense_macs
    assert share == 1.0 if method == "dense" else 0.38 < share <= 0.6
    found = outputs_on(done.model, data.test, data, CPU, task)
    assert found.problem is None
    assert 0.0 <= found.scores["mIoU"] <= 1.0
    assert 0.0 <= found.scores["pixel accuracy"] <= 1.0
