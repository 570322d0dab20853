"""Where data lies."""

from __future__ import annotations

import os
from pathlib import Path

from greenprune.bench.data.cache import cache_folder
from greenprune.bench.errors import UserError


def data_root(root: Path | str | None) -> Path:
    """The data folder: `root` (the command line's `--data`), else `GREENPRUNE_DATA`, else the user's cache folder."""
    chosen = root if root is not None else os.environ.get("GREENPRUNE_DATA") or cache_folder()
    try:
        return Path(chosen).expanduser()
    except RuntimeError:
        raise UserError(
            f"{chosen}: there is no such user; allowed for --data and GREENPRUNE_DATA is a folder"
        ) from None


def existing_root(root: Path | str | None) -> Path:
    """As `data_root`. Raises UserError: there is no such folder; a mistyped one must not be filled by a download."""
    folder = data_root(root)
    if not folder.is_dir() and folder != cache_folder():
        raise UserError(
            f"{folder}: there is no such data folder; allowed for --data and GREENPRUNE_DATA is an existing folder"
        )
    return folder
