"""How far a run is, in a small file in its folder: for whoever looks from elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from greenprune.bench.records.stored import read_json

PROGRESS_FILE = "progress.json"
EVERY_S = 5.0
SHOWN = ("resumed", "progress", "calibrating", "evaluating", "measuring", "held")


class Progress:
    """Writes the last event of a run, every few seconds. What cannot be written is not shown; no run fails for that."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / PROGRESS_FILE
        self._last: tuple[float, str] = (-EVERY_S, "")

    def __call__(self, told: Mapping[str, Any]) -> None:
        what, now_s = str(told["event"]), time.monotonic()
        last_s, last = self._last
        ended = what == "progress" and told.get("epoch_ended")  # a line for each epoch is shown, so none may be lost
        if what not in SHOWN or (what == last and not ended and now_s - last_s < EVERY_S):
            return
        self._last = (now_s, what)
        temporary = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}.tmp")
        with contextlib.suppress(OSError, ValueError):
            temporary.write_text(json.dumps(dict(told)), encoding="utf-8")
            os.replace(temporary, self._path)

    def clear(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def read_progress(folder: Path) -> dict[str, Any] | None:
    """The last event of the run in `folder`; None: it tells nothing, or nothing that can be read."""
    try:
        told = read_json(folder / PROGRESS_FILE)
    except (OSError, ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) and isinstance(told.get("event"), str) else None
