"""Consensus gating as the paper states it (arXiv 2302.10798), as far as that is public, see docs/explanation/method.md.

What `gated` adds to it is off: majority votes, the projection to the budget, the order in which gates are released, prices
of units in their gradients, and what a closed layer leaves. So the difference between the two is what these are worth.
"""

from __future__ import annotations

from typing import ClassVar

from greenprune.methods.gated import Gated
from greenprune.methods.gating.paper import GatedPaperOptions


class GatedPaper(Gated):
    """`gated` with the paper's choices: every image has its own mask while searching, and the budget is a term of the loss."""

    name = "gated_paper"
    source = "arXiv 2302.10798, as far as it is public"
    Options = GatedPaperOptions
    tuning: ClassVar = {
        "search_share": (0.34, 0.6, 0.8),
        "open_share": (0.1, 0.2, 0.5),
        "polarization_weight": (1.0, 2.0, 4.0),
        "budget_weight": (10.0, 20.0, 40.0),
        "drift": (20.0, 40.0, 80.0),
    }
