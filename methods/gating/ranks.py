"""The processes of a distributed training: they share what they saw, and have to hold the same weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def several() -> bool:
    """Whether this process trains together with others (`torch.distributed` is initialized)."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def compare(parameters: Iterable[Tensor]) -> None:
    """For the first step after a removal: a rank whose gradients are no longer shared has other weights by now.

    Raises:
        RuntimeError: on all ranks, when the parameters' sums are not the same everywhere.
    """
    if not several():
        return
    total = torch.stack([p.detach().double().sum() for p in parameters]).sum()
    ends = torch.stack([total, -total])
    torch.distributed.all_reduce(ends, torch.distributed.ReduceOp.MAX)
    if float(ends.sum()) != 0.0:
        raise RuntimeError(
            "the weights of the ranks differ after a removal: where step() returned True, "
            "wrap the gating in DistributedDataParallel again"
        )
