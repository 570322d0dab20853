"""The files that a training leaves in its run's folder until the run is finished."""

from __future__ import annotations

import shutil
from pathlib import Path

CHECKPOINT_FILE = "checkpoint.pt"
PREVIOUS_FILE = "checkpoint.previous.pt"
SPENT_FILE = "spent.jsonl"
RANKS = "ranks"
"""Folder of those of a run on several devices that do not lead: what they have spent."""


def clear(folder: Path) -> None:
    """Delete them, and what was left of one that was being written."""
    for path in (folder / CHECKPOINT_FILE, folder / PREVIOUS_FILE, folder / SPENT_FILE, *folder.glob(".*.tmp")):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / RANKS, ignore_errors=True)
