"""Mean and standard deviation of images."""

from __future__ import annotations

import torch
from torch import Tensor


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of (N, C, H, W) uint8, scaled to 0..1; exact, from histograms."""
    return of_histograms(histograms(images))


def histograms(images: Tensor) -> Tensor:
    """(C, 256) int64: how often each channel of (N, C, H, W) uint8 has each value."""
    return torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)])


def of_histograms(counts: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of `histograms`, or of their sum over many images."""
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in counts:
        shares = channel.double() / channel.sum()
        mean = (shares * values).sum()
        means.append(mean.item())
        stds.append((shares * (values - mean) ** 2).sum().sqrt().item())
    return tuple(means), tuple(stds)
