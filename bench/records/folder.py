"""A results folder: whether it can be written, and whose it is for the moment."""

from __future__ import annotations

import contextlib
import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

from greenprune.bench.errors import UserError


def make_writable(folder: Path) -> None:
    """Create `folder`.

    Raises:
        UserError: it cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as e:
        raise UserError(
            f"--out: {folder} cannot be written ({e.strerror}); choose a folder of your own with --out"
        ) from None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process, so that two suites never write the same records or disturb each other's timing."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another greenprune is running this suite; wait for it, or use --out") from None
        yield
