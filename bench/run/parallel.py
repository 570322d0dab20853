"""Several jobs at a time, each on its share of the machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import TypeVar

from greenprune.bench.run.process import Workers
from greenprune.bench.run.shares import Share

Todo = TypeVar("Todo")
Done = TypeVar("Done")


def in_parallel(
    one: Callable[[Todo, Share], Done], todo: Sequence[Todo], shares: Sequence[Share], workers: Workers
) -> list[Done]:
    """`one` of each of `todo`, as many at a time as there are `shares`, each with a share of its own.

    An interruption ends the workers.
    """
    if len(shares) == 1:
        return [one(each, shares[0]) for each in todo]
    free = SimpleQueue[Share]()
    for share in shares:
        free.put(share)

    def on_own_share(each: Todo) -> Done:
        share = free.get()
        try:
            return one(each, share)
        finally:
            free.put(share)

    with ThreadPoolExecutor(len(shares)) as pool:
        try:
            futures = [pool.submit(on_own_share, each) for each in todo]
            wait(futures, return_when=FIRST_EXCEPTION)
            failed = [error for future in futures if future.done() and (error := future.exception()) is not None]
            if failed:
                raise failed[0]
            return [future.result() for future in futures]
        except BaseException:
            workers.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
