"""What the processes of a distributed training share. Where there is only one, everything here hands back what it was given.

Each process trains on its share of every batch: image i is that of process i modulo their number, as with PyTorch's
DistributedSampler. All of them have to call these functions, in the same order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor


class LostRankError(RuntimeError):
    """Another process of the training has gone, or did something else than this one."""


def several() -> bool:
    """Whether this process trains together with others (`torch.distributed` is initialized)."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def size() -> int:
    """How many processes train together."""
    return torch.distributed.get_world_size() if several() else 1


def rank() -> int:
    """The number of this process among them, from 0."""
    return torch.distributed.get_rank() if several() else 0


@contextlib.contextmanager
def talking() -> Iterator[None]:
    """Around what the processes do together. Raises LostRankError where it fails."""
    try:
        yield
    except LostRankError:
        raise
    except RuntimeError as e:
        raise LostRankError(f"the processes of the training have lost each other ({str(e).splitlines()[0]})") from e


@torch.no_grad()
def summed(values: Tensor, group: Any = None) -> Tensor:
    """The sum over all processes; of integers exactly."""
    if not several():
        return values
    values = values.clone(memory_format=torch.contiguous_format)
    with talking():
        torch.distributed.all_reduce(values, group=group)
    return values


def mean(values: Tensor) -> Tensor:
    """The mean over all processes, the same bit for bit in each of them."""
    return summed(values).div_(size()) if several() else values


def mean_of(values: Tensor) -> float:
    """The mean of all values of all processes, which may have different numbers of them."""
    if not several():
        return float(values.mean())
    total, count = summed(torch.stack([values.double().sum(), values.new_tensor(len(values)).double()])).tolist()
    return total / count


def any_of(values: Tensor) -> Tensor:
    """bool: where `values` are true in one of the processes at least."""
    return summed(values.to(torch.int32)) > 0 if several() else values


@torch.no_grad()
def each(values: Tensor, group: Any = None) -> Tensor:
    """(processes, ...): those of every process, which have one shape."""
    if not several():
        return values[None]
    values = values.contiguous()
    found = [torch.empty_like(values) for _ in range(size())]
    with talking():
        torch.distributed.all_gather(found, values, group=group)
    return torch.stack(found)


def whole(share_: Tensor) -> Tensor:
    """The whole batch, (B, ...), of the shares of all processes; the other way of `share`."""
    return each(share_).transpose(0, 1).flatten(0, 1) if several() else share_


def share(batch: Tensor) -> Tensor:
    """What of a whole batch, (B, ...), belongs to this process."""
    return batch[rank() :: size()] if several() else batch


def compare(parameters: Iterable[Tensor]) -> None:
    """For the first step after a removal: a process whose gradients are no longer shared has other weights by now.

    Raises:
        RuntimeError: in all processes, when the parameters' sums are not the same everywhere.
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
