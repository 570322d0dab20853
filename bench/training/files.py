"""The files that a training leaves in its run's folder until the run is finished."""

from __future__ import annotations

import shutil
from pathlib import Path

from greenprune.bench.records.folder import take_run
from greenprune.bench.records.lock import Lock

CHECKPOINT_FILE = "checkpoint.pt"
PREVIOUS_FILE = "checkpoint.previous.pt"
SPENT_FILE = "spent.jsonl"
RANKS = "ranks"
"""Folder of those of a run on several devices that do not lead: what they have spent."""


def clear(folder: Path) -> None:
    """Delete them, and what was left of one that was being written."""
    for path in _left(folder):
        if path.name == RANKS:
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def clear_unless_held(folder: Path) -> None:
    """As `clear`, of a run that is finished: but somebody may be training it again.

    Raises:
        UserError: there is something to delete, and its lock cannot be made.
    """
    if not _left(folder):
        return
    held = take_run(folder)
    if isinstance(held, Lock):
        try:
            clear(folder)
        finally:
            held.release()


def _left(folder: Path) -> list[Path]:
    """Those of the files, and the folder, that are there."""
    named = (folder / name for name in (CHECKPOINT_FILE, PREVIOUS_FILE, SPENT_FILE, RANKS))
    return [*(path for path in named if path.exists() or path.is_symlink()), *folder.glob(".*.tmp")]
