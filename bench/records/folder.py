"""A results folder: whether it can be written, and who is at work in it for the moment."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from greenprune.bench.errors import UserError
from greenprune.bench.records.lock import Holder, Lock, holder_of, is_held, take

LOCK_FILE = ".lock"
"""In a run's folder: held by who does the run. In a suite's: by who needs the machine to itself for all of its networks."""

CLOSING_FILE = ".closing.lock"
"""Held in a suite's folder by who writes its tables, and has its networks measured side by side for that."""


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
    """Hold all of `folder` (results/<suite>) for this process, so that nothing of it disturbs timings on this machine.

    Raises:
        UserError: another process holds it, or does one of its runs on this machine; or a lock cannot be made.
    """
    found = take(folder / LOCK_FILE)
    if not isinstance(found, Lock):
        raise _in_use(folder, found)
    try:
        for key in here(folder):
            raise _in_use(folder / key, holder_of(folder / key / LOCK_FILE))
        yield
    finally:
        found.release()


def _in_use(folder: Path, holder: Holder | None) -> UserError:
    by = "" if holder is None else f" ({holder})"
    return UserError(f"{folder}: another greenprune is running this suite{by}; wait for it, or use --out")


def running(folder: Path) -> dict[str, Holder | None]:
    """The runs of `folder` (results/<suite>) that somebody is doing, by key, and who does."""
    locks = (path for path in sorted(folder.glob(f"*/{LOCK_FILE}")) if is_held(path))
    return {path.parent.name: holder_of(path) for path in locks}


def here(folder: Path) -> list[str]:
    """Keys of the runs of `folder` that are being done on this machine."""
    return [key for key, holder in running(folder).items() if holder is not None and holder.here]


def take_run(folder: Path) -> Lock | Holder | None:
    """Take the lock of the run in `folder` (results/<suite>/<key>), or find who holds it (None: who cannot be read), or who
    has this machine to itself for the whole suite.

    Raises:
        UserError: the lock cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = take(folder / LOCK_FILE)
    if not isinstance(found, Lock):
        return found
    whole = holder_of(folder.parent / LOCK_FILE)  # looked at last here, taken first there: one of both sees the other
    if whole is not None and whole.here:
        found.release()
        return whole
    return found
