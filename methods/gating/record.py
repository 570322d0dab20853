"""What a search leaves in the record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from greenprune.methods.gating.module import ConsensusGating

POLARIZED = 0.1
"""A consensus below this, or above 1 minus this, counts as polarized, whatever the options call settled."""


def polarized_share(consensus: Tensor) -> float:
    """Fraction of the gates (U,) whose consensus is polarized."""
    return float(((consensus < POLARIZED) | (consensus > 1.0 - POLARIZED)).float().mean())


def history(gating: ConsensusGating) -> dict[str, Any]:
    """See `ConsensusGating.history`."""
    steps = [step for step, _ in gating.rows]
    rows = [row for _, row in gating.rows]

    def part(units: slice) -> list[list[float]]:
        return [[round(c, 2) for c in row[units]] for row in rows]

    groups = [g for g in gating.structure.groups if gating.gated[g.start]]
    branches = [b for b in gating.structure.branches if gating.gated[b.unit]]
    return {
        "steps": steps,
        "search_steps": gating.search_steps,
        "channels": {g.name: part(g.units) for g in groups},
        "layers": {b.name: part(slice(b.unit, b.unit + 1)) for b in branches},
        "polarized_share": gating.polarized_share,
    }
