"""Where files go: nothing of the user's is written over."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from greenprune.bench.errors import UserError


def refuse_overwriting(out: Path, names: Iterable[str], command: str) -> None:
    """Raise UserError where `out` holds something under one of `names`, which `command` would write over."""
    there = [name for name in names if os.path.lexists(out / name)]
    if there:
        raise UserError(
            f"--out {out}: holds {', '.join(there)}, which {command} would write over; allowed: another folder, or move "
            f"{'it' if len(there) == 1 else 'them'} elsewhere"
        )
