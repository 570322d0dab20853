"""Paths that a user names: with `~` written out, and known to be such that the system can be asked what lies there."""

from __future__ import annotations

from pathlib import Path

from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened


def path_of(text: str | Path, given: str, beside: Path | None = None) -> Path:
    """Where a user says that something lies. `exists`, `is_dir` and `is_file` of it raise nothing.

    Args:
        given: where that was said, to begin a sentence with.
        beside: the folder that a relative path begins in; None: the working directory.

    Raises:
        UserError: `~user` is nobody here, or the system refuses to look there: too long, not permitted, a link to itself.
    """
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise UserError(
            f"{given}: {shortened(Path(text).parts[0])} is nobody's folder here; allowed: a path without it"
        ) from None
    path = path if beside is None else beside / path
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as e:
        raise UserError(
            f"{given}: cannot be looked for ({getattr(e, 'strerror', None) or e}); allowed: the path of a file or a folder"
        ) from None
    return path


def is_utf8(path: str | Path) -> bool:
    """Whether a path is text: records, and the files that a worker reads, are JSON, which takes no other."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
