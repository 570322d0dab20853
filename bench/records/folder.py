"""A results folder: whether it can be written, and whose it is for the moment."""

from __future__ import annotations

import contextlib
import fcntl
import os
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
    try:  # no link is followed: it could lead out of the folder, to a file of the user's own
        number = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as e:
        raise UserError(f"{folder / '.lock'}: cannot be written ({e.strerror}); delete it") from None
    with os.fdopen(number, "r+b", buffering=0) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another greenprune is running this suite; wait for it, or use --out") from None
        yield
