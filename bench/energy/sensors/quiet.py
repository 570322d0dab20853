"""Imports of packages that print when their library is missing; standard output belongs to the command that is measured."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Nothing that code of the block prints is seen. amdsmi 7 does so, and what imports it: CodeCarbon, Zeus.

    What a shared library prints goes by the descriptors; those are turned away only where no other thread may be printing.
    """
    with contextlib.ExitStack() as kept:
        nowhere = kept.enter_context(open(os.devnull, "w"))
        if threading.active_count() == 1:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):  # closed, or no file
                    stream.flush()
            for number in (1, 2):
                with contextlib.suppress(OSError):  # closed: nobody sees it anyway
                    kept.callback(_put_back, os.dup(number), number)
                    os.dup2(nowhere.fileno(), number)
        kept.enter_context(contextlib.redirect_stdout(nowhere))
        kept.enter_context(contextlib.redirect_stderr(nowhere))
        yield


def _put_back(kept: int, number: int) -> None:
    os.dup2(kept, number)
    os.close(kept)
