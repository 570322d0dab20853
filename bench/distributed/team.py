"""The ranks of a run, once they have found each other: over the devices what is computed, over the CPUs what is decided."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import psutil
import torch
from greenprune.bench.distributed.rank import Rank
from greenprune.methods.ranks import together
from greenprune.methods.ranks.together import LostRankError
from torch import Tensor

PATIENCE = timedelta(days=7)
"""While one rank does something alone, such as calibrating, the others wait. Whoever dies is noticed at once."""

FOUND = timedelta(minutes=10)
"""For the ranks to reach their launcher."""

GONE_S = 60.0

HEARD_S = 10.0
"""For ranks that stop to hear of each other. One that was ended otherwise does not answer, and the others have saved."""

_words: Any = None  # the group over which decisions are told, on CPUs; None: the one for everything
_store: Any = None  # of the launcher, which outlives the ranks


@contextlib.contextmanager
def joined(rank: Rank | None, device: str) -> Iterator[None]:
    """Inside, the ranks of a run are together; until `leave`. Nothing for one that does its run alone."""
    global _words, _store
    if rank is None:
        yield
        return
    with together.talking():
        store, number, size = next(torch.distributed.rendezvous("env://", timeout=FOUND))
        # The launcher keeps one store for all its starts: what lost ranks left in it must not be taken for word of these.
        store = torch.distributed.PrefixStore(f"start_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        _store = store
        backend = "nccl" if device == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, store=store, rank=number, world_size=size, timeout=PATIENCE)
        # NCCL talks on the GPU alone, and a number that is to be looked at would have to wait for all that is queued there.
        _words = torch.distributed.new_group(backend="gloo", timeout=PATIENCE) if device == "cuda" else None
    try:
        yield
    finally:
        _end()


def _end() -> None:
    global _words, _store
    if together.several():
        torch.distributed.destroy_process_group()
    _words = _store = None


def leave(rank: Rank) -> None:
    """The ranks part. The one that leads waits until the others of its node have gone, and has all threads to itself."""
    pids = tell([os.getpid(), rank.node])
    _all_have_heard(rank)
    _end()
    if not rank.leads:
        return
    others = [int(pid) for pid, node in pids.tolist() if node == rank.node and pid != os.getpid()]
    living = []
    for pid in others:
        with contextlib.suppress(psutil.NoSuchProcess):
            living.append(psutil.Process(pid))
    psutil.wait_procs(living, timeout=GONE_S)
    torch.set_num_threads(rank.shared.threads)


def stopped(rank: Rank) -> None:
    """The ranks part in the middle of a training, after a step in which they agreed to; each after it has saved."""
    if together.several():
        with contextlib.suppress(LostRankError):
            _all_have_heard(rank, timedelta(seconds=HEARD_S))


def _all_have_heard(rank: Rank, patience: timedelta = FOUND) -> None:
    """Wait until each rank has all that was told: a connection that one closes early is a lost rank to one that still reads.

    By way of the launcher's store: an operation of the ranks themselves would only be the next to be cut off.
    """
    with together.talking():
        _store.set(f"heard_{rank.rank}", "")
        _store.wait([f"heard_{number}" for number in range(rank.size)], patience)


def tell(numbers: Sequence[int]) -> Tensor:
    """(ranks, numbers) int64: what each rank tells of itself."""
    return together.each(torch.tensor(numbers, dtype=torch.int64), _words)


def told(content: bytes) -> bytes:
    """What the rank that leads has, in all of them."""
    if not together.several():
        return content
    size = int(tell([len(content)])[0])
    found = torch.frombuffer(
        bytearray(content if together.rank() == 0 else bytes(size)) or bytearray(1), dtype=torch.uint8
    )
    with together.talking():
        torch.distributed.broadcast(found, 0, group=_words)
    return bytes(found.numpy().tobytes()[:size])


def collected(content: bytes) -> list[bytes]:
    """What each rank has, by their numbers."""
    if not together.several():
        return [content]
    sizes = tell([len(content)])[:, 0].tolist()
    padded = torch.zeros(max(1, *sizes), dtype=torch.uint8)
    if content:
        padded[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    rows = together.each(padded, _words)
    return [row[:size].numpy().tobytes() for row, size in zip(rows, sizes, strict=True)]
