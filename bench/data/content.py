"""What data is, whatever it is called and wherever it lies: hashes of contents."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from greenprune.bench.data.cache import cache_folder

if TYPE_CHECKING:
    from torch import Tensor


INDEXED_BYTES = 2**30


def file_hash(path: Path) -> str:
    """SHA-256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_hashes(paths: Sequence[Path]) -> list[str]:
    """SHA-256 of each file. Raises OSError.

    Of more than `INDEXED_BYTES` they are kept in the cache folder, and a file is read again when its size, its inode or its
    time of change (which nobody can set) is another one.
    """
    stats = [path.stat() for path in paths]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        if sum(stat.st_size for stat in stats) <= INDEXED_BYTES:
            return list(pool.map(file_hash, paths))
        keys = [
            f"{path.absolute()}\n{stat.st_dev} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
            for path, stat in zip(paths, stats, strict=True)
        ]
        known = _read_index()
        new = [i for i, key in enumerate(keys) if key not in known]
        found = dict(zip((keys[i] for i in new), pool.map(file_hash, (paths[i] for i in new)), strict=True))
    if found:
        _add_to_index(found)
    known |= found
    return [known[key] for key in keys]


def _index() -> sqlite3.Connection:
    place = cache_folder() / "hashes.sqlite"
    place.parent.mkdir(parents=True, exist_ok=True)
    index = sqlite3.connect(place, timeout=60)
    index.execute("CREATE TABLE IF NOT EXISTS hashes (file TEXT PRIMARY KEY, sha256 TEXT NOT NULL)")
    return index


def _read_index() -> dict[str, str]:
    try:
        with contextlib.closing(_index()) as index:
            return dict(index.execute("SELECT file, sha256 FROM hashes"))
    except (sqlite3.Error, OSError, UnicodeError):
        return {}


def _add_to_index(found: Mapping[str, str]) -> None:
    """A cache folder that cannot be written, or a path that is no UTF-8, costs time alone."""
    with contextlib.suppress(sqlite3.Error, OSError, UnicodeError), contextlib.closing(_index()) as index, index:
        index.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?)", found.items())


def tensors_hash(named: dict[str, Tensor]) -> str:
    """SHA-256 of tensors with their names, types and shapes, in the order of the names."""
    found = hashlib.sha256()
    for name, tensor in sorted(named.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(memoryview(_bytes_of(tensor)).cast("B"))
    return found.hexdigest()


def _bytes_of(tensor: Tensor) -> memoryview:
    import torch  # late: who hashes files alone needs none

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy() if flat.numel() else b"")
