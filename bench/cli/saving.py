"""What was read of a command goes to files: whole or not at all, again and again while it runs."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from greenprune.bench.errors import UserError
from greenprune.bench.records.stored import write_atomically
from greenprune.plots.report.energy_rows import COLUMNS, csv_text

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class Rows:
    """The rows of one run in a CSV file that others append to at the same time; the last `save` counts."""

    def __init__(self, path: Path) -> None:
        """Raises UserError when the file holds other columns."""
        self._path = followed(path)
        self._mine = ""
        with contextlib.suppress(FileNotFoundError):
            self._check(_text(self._path))

    def save(self, rows: Sequence[dict[str, Any]]) -> None:
        """Put `rows` at the end, in the place of those that were saved before.

        Raises:
            UserError: somebody has put a file of other columns there.
            OSError: it cannot be written.
        """
        with _locked(self._path):
            text = _text(self._path)
            self._check(text)
            if self._mine and self._mine in text:
                text = text.replace(self._mine, "", 1)
            if text and not text.endswith("\n"):
                text += "\n"
            mine = csv_text(rows, header=False)
            write_atomically(self._path, (text or csv_text([])) + mine)
            self._mine = mine

    def _check(self, text: str) -> None:
        header = next(csv.reader(text.splitlines()[:1]), None)
        if header is None or header == list(COLUMNS):
            return
        differing = sorted(set(header) ^ set(COLUMNS)) or ["their order"]
        raise UserError(
            f"--csv {self._path}: holds other columns than greenprune writes ({', '.join(differing[:3])}"
            f"{' …' if len(differing) > 3 else ''}); allowed is a new file, or one of this version's `energy --csv`"
        )


def followed(path: Path) -> Path:
    """The file that a link named by the user leads to: it is written, and the link stays one."""
    return path.resolve() if path.is_symlink() else path


def _text(path: Path) -> str:
    """Line ends as they are. Raises UserError for what is no text."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"--csv {path}: is no text; allowed is a new file, or one of `energy --csv`") from None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Nobody else who takes this lock writes the file meanwhile. Makes an empty one where there is none."""
    if fcntl is None:
        path.touch()
        yield
        return
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            with contextlib.suppress(OSError):  # some network file systems know no locks
                fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever had it before has put another file in its place.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.stat(path)):
                    yield
                    return
        finally:
            os.close(file)
