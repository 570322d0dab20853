"""What an expert expects before he believes any number: controls that are controls, and methods that are not worse."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from greenprune.bench.data.load import load
from greenprune.methods import count_macs
from greenprune.methods.structure.surgery import evaluate

from tests.methods.contract import run
from tests.methods.networks import batches, images, network


def test_gated_with_nothing_to_remove_is_dense() -> None:
    """All gates open from beginning to end: the same result as without gates, but for the noise of rounding."""
    x = images(8, 16)
    options = {"open_share": 0.99, "noise": 0.0, "polarization_weight": 0.0}
    gated, _ = run("gated", network(), 1.0, options=options)
    dense, _ = run("dense", network(), 1.0)
    assert count_macs(gated, x) == count_macs(dense, x)
    assert torch.allclose(evaluate(gated, x), evaluate(dense, x), atol=1e-4)


def test_random_is_not_better_than_every_method_at_three_tenths() -> None:
    x, y = batches(1, batch=200, size=16, seed=9)[0]

    def loss(name: str) -> float:
        result, _ = run(name, network(), 0.3, steps=60, batch=16)
        return float(F.cross_entropy(evaluate(result, x), y))

    others = [loss(name) for name in ("magnitude", "slimming", "depgraph", "uniform")]
    assert min(others) < loss("random")


def test_held_out_and_training_images_are_apart() -> None:
    data = load("digits")
    train = {image.numpy().tobytes() for image in data.train.images}
    twice = sum(image.numpy().tobytes() in train for image in data.holdout.images)
    assert twice <= 1  # the set itself has a few images twice
