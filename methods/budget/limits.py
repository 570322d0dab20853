"""Between which costs a result must end. Needs no torch, so that whoever reads a record can ask too."""

from __future__ import annotations

COARSE_TOLERANCE = 0.1
"""Where only whole steps can be closed, and none ends within the tolerance: how far below the budget the result may end,
as a fraction of the budget."""

MEASURED_TOLERANCE = 0.1
"""How far from the budget a measured time or energy may end, as a fraction of the budget."""


def lowest(keep: float, tolerance: float, *, coarse: bool) -> float:
    """The least that the result may cost, as a fraction of dense; `coarse`: only whole steps of the width can be closed."""
    return min(keep - tolerance, keep * (1.0 - COARSE_TOLERANCE)) if coarse else keep - tolerance
