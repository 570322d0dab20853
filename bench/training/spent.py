"""What a training has spent since its last checkpoint, on disk every few seconds: a process that is killed tells no more.

One line of JSON each. The first names what the training is; one for every start; and then, for every start and every
checkpoint, lines of which the last counts: samples, multiply-accumulates, seconds and joules since that checkpoint. Whatever
is in no checkpoint has to be done again: it is *redone*.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from greenprune.bench.energy.reading import Reading
from greenprune.bench.records.stored import write_atomically
from greenprune.bench.training.checkpoint import Identity, differing
from greenprune.bench.training.files import SPENT_FILE
from pydantic import BaseModel, ConfigDict, ValidationError


class Spent(BaseModel):
    """Part of a training. `part`: "prepare" is what a start does again before it goes on, "training" is training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempt: int  # from 1
    after: int  # number of the checkpoint since which it was spent; 0: the start
    part: str
    samples: int
    forward_macs: int
    duration_s: float
    reading: Reading


class SpentLog:
    """The file of one run.

    Args:
        folder: of the run.
        identity: of the training; what was written for another one is deleted.
        started_at: of this process, ISO 8601.
    """

    def __init__(self, folder: Path, identity: Identity, started_at: str) -> None:
        self.path = folder / SPENT_FILE
        lines = _lines(self.path)
        if not lines or differing(lines[0].get("identity"), identity):
            lines = [{"identity": dict(identity)}]
        starts = [line for line in lines if "started_at" in line]
        self.attempt = len(starts) + 1
        self.first_started_at = str(starts[0]["started_at"]) if starts else started_at
        self.entries = _entries(lines)
        self._head = [lines[0], *starts, {"started_at": started_at}]
        self._rewrite(self.entries)

    def lost(self, checkpoint: int) -> list[Spent]:
        """What was spent after the checkpoint of that number, in all starts so far but this one."""
        last = {(e.attempt, e.after, e.part): e for e in self.entries if e.after >= checkpoint}
        return [e for e in last.values() if e.attempt != self.attempt]

    @property
    def last_checkpoint(self) -> int:
        """The highest number of a checkpoint that anything was spent after."""
        return max((entry.after for entry in self.entries), default=0)

    def note(self, spent: Spent) -> None:
        """Append a line, on the disk when this returns. Raises OSError."""
        self.entries.append(spent)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(spent.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def shorten(self) -> None:
        """Keep of the lines that belong together the last one, which is all that counts. Raises OSError."""
        self._rewrite({(e.attempt, e.after, e.part): e for e in self.entries}.values())

    def _rewrite(self, entries: Iterable[Spent]) -> None:
        self.entries = list(entries)
        lines = [*map(json.dumps, self._head), *(entry.model_dump_json() for entry in self.entries)]
        write_atomically(self.path, "\n".join(lines) + "\n")


def _lines(path: Path) -> list[dict[str, Any]]:
    """Those that are whole; the last one may be cut off."""
    found = []
    with contextlib.suppress(OSError):
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                if isinstance(line := json.loads(text), dict):
                    found.append(line)
    return found


def _entries(lines: list[dict[str, Any]]) -> list[Spent]:
    found = []
    for line in lines:
        with contextlib.suppress(ValidationError):
            found.append(Spent.model_validate(line))
    return found
