"""Arrays that are slow to make, kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

FORMAT = 2
"""Part of every key: raise it when the same sources are to give other arrays."""

Arrays = dict[str, np.ndarray]


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/greenprune`, by default `~/.cache/greenprune`; not created here."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "greenprune"


def cached(name: str, made_of: object, make: Callable[[], Arrays]) -> Arrays:
    """What `make()` returns, from the cache folder if it was made of the same before.

    A damaged cache file is made again. When the cache folder cannot be written, a warning says so.

    Args:
        made_of: whatever the arrays follow from, as JSON takes it: hashes of contents, for which purpose and in which order,
            and what is done to them; neither names nor times of files.
    """
    path = cache_folder() / "decoded" / f"{name}-{_fingerprint(made_of)}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}  # the zip format's checksums are verified on the way
    except (OSError, EOFError, ValueError, zipfile.BadZipFile):
        arrays = make()
    try:
        _write(path, arrays)
    except OSError as error:
        warnings.warn(f"{path}: decoded images could not be kept ({error.strerror or error})", stacklevel=2)
    return arrays


def _fingerprint(made_of: object) -> str:
    return hashlib.sha256(json.dumps([FORMAT, made_of]).encode()).hexdigest()[:32]


def _write(path: Path, arrays: Arrays) -> None:
    """Atomic: several processes may need, and write, the same file at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.stem, suffix=".tmp", delete=False) as file:
        temporary = Path(file.name)
        try:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.close()
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
