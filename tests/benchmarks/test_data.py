"""Augmented batches, as training reads them."""

from __future__ import annotations

import torch
from greenprune.bench.data.batches import Batches
from greenprune.bench.data.splits import Split

from tests.benchmarks import references
from tests.benchmarks.side_by_side import SideBySide

IMAGES, EPOCHS = 1024, 3


def test_data_pipeline(side_by_side: SideBySide) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8, generator=generator)
    batches = Batches(
        Split(pixels, torch.arange(IMAGES) % 10),
        batch_size=128,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        device="cpu",
        seed=0,
        augment=("crop-flip",),
    )

    def epochs() -> None:
        for number in range(EPOCHS):
            for _ in batches.epoch(number):
                pass

    side_by_side(epochs, references.copying(), images=EPOCHS * IMAGES)
