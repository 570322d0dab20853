"""What a window's energy is divided by: tokens, images, requests."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict


class PerUnit(BaseModel):
    """Joules per unit with the bounds of the joules; the count itself is exact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: str  # "tokens"
    count: float
    j_per_unit: float
    low_j_per_unit: float
    high_j_per_unit: float


def checked_counts(counts: Mapping[str, float]) -> dict[str, float]:
    """`counts` as numbers. Raises ValueError for a name or a number that cannot count anything."""
    found = {}
    for name, count in counts.items():
        if not re.fullmatch(r"[A-Za-z]\w*", name):
            raise ValueError(f'unit "{name}": allowed is a name such as tokens, of letters, digits and underscores')
        try:
            number = math.nan if isinstance(count, str | bool) else float(count)
        except (TypeError, ValueError):
            number = math.nan
        if not 0 <= number < math.inf:
            raise ValueError(f"{name} = {count!r}: allowed is a number from 0")
        found[name] = number
    return found


def singular(unit: str) -> str:
    """One of them, for "J per token"."""
    for ending, instead in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("sses", "ss"), ("ss", "ss")):
        if unit.endswith(ending):
            return unit.removesuffix(ending) + instead
    return unit.removesuffix("s") or unit
