"""One measurement in a process of its own, with limits: what hangs or eats the memory is a result, not the end."""

from __future__ import annotations

import gc
import multiprocessing
import resource
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from tests.methods.zoo.entry import Entry

PATIENCE = 8.0

Measure = Callable[[Entry], dict[str, Any]]


def run(measure: Measure, entry: Entry, limit_s: float, limit_bytes: int) -> dict[str, Any]:
    """What `measure` finds, or {"failed": why}.

    Forked, so that what this process has imported is there; it must have started no threads.

    Args:
        limit_s: of CPU time; of wall-clock time it may take `PATIENCE` times as much, on a machine that has other work.
        limit_bytes: of address space.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(measure, entry, limit_s, limit_bytes, sender))
    process.start()
    sender.close()
    try:
        found = receiver.recv() if receiver.poll(PATIENCE * limit_s) else None
    except EOFError:
        process.join()
        killed = process.exitcode in (-signal.SIGXCPU, -signal.SIGKILL)
        found = None if killed else {"failed": f"the process died with exit code {process.exitcode}"}
    process.kill()
    process.join()
    return found if found is not None else {"failed": f"does not end within {limit_s:.0f} s"}


def _work(measure: Measure, entry: Entry, limit_s: float, limit_bytes: int, sender: Connection) -> None:
    gc.freeze()  # what was there before is not to be looked at again
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (int(limit_s), int(limit_s) + 1))
    try:
        found = measure(entry)
    except MemoryError:
        found = {"failed": f"needs more than {limit_bytes / 2**30:.0f} GiB"}
    except BaseException as error:
        if "can't allocate memory" in str(error):
            found = {"failed": f"needs more than {limit_bytes / 2**30:.0f} GiB"}
        else:
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{last.filename.rpartition('/')[2]}:{last.lineno}"
            told = str(error).strip().splitlines()
            found = {
                "failed": f"{type(error).__name__}: {told[0] if told else ''} ({place})",
                "traceback": traceback.format_exc(),
            }
    sender.send(found)
    sender.close()
