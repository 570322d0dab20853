"""What a search leaves in the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from greenprune.methods.structure.remnant import kind_of
from greenprune.methods.structure.units import Structure
from torch import Tensor

POLARIZED = 0.1
"""A consensus below this, or above 1 minus this, counts as polarized, whatever the options call settled."""


def polarized_share(consensus: Tensor) -> float:
    """Fraction of the gates (U,) whose consensus is polarized."""
    return float(((consensus < POLARIZED) | (consensus > 1.0 - POLARIZED)).float().mean())


def leaves(structure: Structure) -> dict[str, str]:
    """By the name of each branch, what it leaves when it closes: "thin", "separable" or "removed"."""
    return {b.name: "removed" if b.remnant is None else kind_of(b.remnant) for b in structure.branches}


def history(structure: Structure, gated: Tensor, rows: Sequence[tuple[int, list[float]]]) -> dict[str, Any]:
    """The part of `ConsensusGating.history` that the rows hold.

    Args:
        gated: (U,) bool, the units that have a gate.
        rows: steps done, and the consensus of all units then.
    """

    def part(units: slice) -> list[list[float]]:
        return [[round(c, 2) for c in row[units]] for _, row in rows]

    return {
        "steps": [step for step, _ in rows],
        "channels": {g.name: part(g.units) for g in structure.groups if gated[g.start]},
        "layers": {b.name: part(slice(b.unit, b.unit + 1)) for b in structure.branches if gated[b.unit]},
    }
