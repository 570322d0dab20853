"""Where data lies."""

from __future__ import annotations

import os
from pathlib import Path

from greenprune.bench.data.cache import cache_folder
from greenprune.bench.errors import UserError
from greenprune.bench.foreign import shortened
from greenprune.bench.paths import path_of


def data_root(root: Path | str | None) -> Path:
    """The data folder: `root` (the command line's `--data`), else `GREENPRUNE_DATA`, else the user's cache folder.

    Raises:
        UserError: as of `path_of`.
    """
    chosen = root if root is not None else os.environ.get("GREENPRUNE_DATA") or cache_folder()
    return path_of(chosen, f"data folder {shortened(str(chosen))}")


def is_said(root: Path | str | None) -> bool:
    """Whether the user says where the data folder is."""
    return root is not None or bool(os.environ.get("GREENPRUNE_DATA"))


def existing_root(root: Path | str | None) -> Path:
    """As `data_root`. Raises UserError: there is no such folder; a mistyped one must not be filled by a download."""
    folder = data_root(root)
    if not folder.is_dir() and folder != cache_folder():
        raise UserError(
            f"{folder}: there is no such data folder; allowed for --data and GREENPRUNE_DATA is an existing folder"
        )
    return folder
