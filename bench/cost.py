"""What a finished network costs, where multiply-accumulates of one forward pass do not tell it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from bench.record import SampleMacs
from methods.macs import COUNTED, MacMeter

SAMPLED_IMAGES = 1000
BINS = 40


def count_connections(model: nn.Module) -> int:
    """Nonzero weights of all convolution and linear layers."""
    layers = (m for m in model.modules() if isinstance(m, COUNTED))
    return sum(int(torch.count_nonzero(layer.weight)) for layer in layers)  # type: ignore[arg-type]


@torch.no_grad()
def sample_macs(model: nn.Module, images: Iterable[Tensor], dense_macs: int) -> SampleMacs:
    """Run `images`, (1, C, H, W) each, one by one in eval mode and count what every one of them executes.

    Args:
        dense_macs: of the dense network, for one image.
    """
    model.eval()
    shares = []
    for image in images:
        with MacMeter() as meter:
            model(image)
        shares.append(meter.total / dense_macs)
    counts, edges = np.histogram(shares, bins=BINS, range=(0.0, max(1.0, *shares)))
    return SampleMacs(
        images=len(shares),
        mean=float(np.mean(shares)),
        std=float(np.std(shares)),
        low=min(shares),
        high=max(shares),
        edges=tuple(round(float(e), 6) for e in edges),
        counts=tuple(int(n) for n in counts),
    )
