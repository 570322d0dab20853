"""A data set and a network of a suite, and how folders spell them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from greenprune.bench.data.options import Entry


@dataclass(frozen=True)
class Pair:
    """A data set and a network of a suite.

    Attributes:
        dataset: as tables and figures call it.
        prefix: of the keys of its runs: what of it the suite has several of.
        entry: what the suite says of the data set.
    """

    dataset: str
    model: str
    prefix: str = ""
    entry: Entry = ""


def for_folder(value: float | str) -> str:
    """A budget or a network as the names of folders spell it."""
    return re.sub(r"[^\w.+-]+", "-", value) if isinstance(value, str) else f"{value:g}"
