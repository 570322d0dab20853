"""What files, sections and links are called, from the names of suites and runs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from greenprune.plots.frame.frame import Results
from greenprune.plots.frame.views import name_of

LONGEST_NAME = 100
"""Of a comparison within the name of a file; file systems take 255 bytes in all."""


def section_names(parts: Sequence[Results]) -> list[str]:
    """A name for each comparison that is fit for a file: the suite, numbered where it occurs again."""
    names: list[str] = []
    for part in parts:
        name = file_name(name_of(part.runs.iloc[0]))
        count = sum(other == name or other.startswith(f"{name}.") for other in names)
        names.append(f"{name}.{count + 1}" if count else name)
    return names


def file_name(text: str) -> str:
    """A suite or run as a name that is fit for a file; two of them may have the same one."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:LONGEST_NAME]


def own_file_name(text: str) -> str:
    """As `file_name`, and no two have the same one: what had to be changed has a piece of its hash behind it."""
    name = file_name(text)
    piece = hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:8]
    return name if name == text else f"{name[: LONGEST_NAME - 9]}-{piece}"


def record_file(key: str) -> str:
    """What the record of a run is called on a site."""
    return f"{own_file_name(key)}.json"
