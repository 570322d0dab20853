"""What was read of a command goes to files: whole or not at all, again and again while it runs."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
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
        try:
            header = next(csv.reader(text.splitlines()[:1]), None)
        except csv.Error:  # a field that is longer than the module reads
            header = []
        if header is None or header == list(COLUMNS):
            return
        differing = sorted(set(header) ^ set(COLUMNS)) or ["their order"]
        raise UserError(
            f"--csv {self._path}: holds other columns than greenprune writes ({', '.join(differing[:3])}"
            f"{' …' if len(differing) > 3 else ''}); allowed is a new file, or one of this version's `energy --csv`"
        )


def check_outputs(outputs: Mapping[str, Path | None], read: Sequence[Path]) -> None:
    """Refuse before a command has run what could not be written or read after it.

    Args:
        outputs: by option, the file that is to be written.
        read: the files that the command writes and that are read when it has ended, of `--units`.

    Raises:
        UserError: one cannot be written, is a folder, or is meant for two things.
    """
    taken: dict[str, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        if why := _why_unwritable(path):
            raise UserError(
                f"{option} {path}: cannot be written ({why}); allowed is a file in a folder that can be written"
            )
        if (other := taken.setdefault(os.path.realpath(path), option)) != option:
            raise UserError(f"{option} {path}: is the file of {other} too; allowed is a file of its own")
    for path in read:
        if path.is_dir():
            raise UserError(f"--units @{path}: is a folder; allowed is a file of lines of NAME=NUMBER")
        if taker := taken.get(os.path.realpath(path)):
            raise UserError(f"--units @{path}: is the file of {taker} too; allowed is a file that the command writes")


def _why_unwritable(path: Path) -> str | None:
    """Half a sentence on why no file can be put at `path` through a temporary one beside it; None where it can."""
    try:
        path = followed(path)
    except OSError as e:
        return e.strerror or type(e).__name__
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    if path.exists() and not path.is_file():
        return "it is no file"
    for place in (folder, path):
        if place.exists() and not os.access(place, os.W_OK):
            return f"{place} is write-protected"
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{path.name}.", suffix=".tmp"):
            return None
    except OSError as e:
        return e.strerror or type(e).__name__


def write_json(path: Path, data: Any) -> None:
    """Write what was found for programs to the file of `--json`. Raises UserError."""
    try:
        write_atomically(followed(path), json.dumps(data, indent=1) + "\n")
    except OSError as e:
        raise UserError(f"--json {path}: cannot be written ({e.strerror})") from None


def followed(path: Path) -> Path:
    """The file that a link named by the user leads to: it is written, and the link stays one.

    Raises:
        OSError: it leads to itself, or where nobody may look.
    """
    if not path.is_symlink():
        return path
    with contextlib.suppress(FileNotFoundError):
        path.stat()
    return path.resolve()


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
