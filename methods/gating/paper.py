"""Options of `gated_paper`, see `greenprune.methods.gated_paper`."""

from __future__ import annotations

from greenprune.methods.gating.options import GatingOptions
from greenprune.methods.options.base import with_defaults

GatedPaperOptions = with_defaults(
    GatingOptions,
    "GatedPaperOptions",
    "Options of `gated_paper`: those of `gated`, with what is public of arXiv 2302.10798 as their defaults.",
    execution="per_sample",
    target="loss",
    closed_layers="removed",
    prior_spread=0.0,
    balance=0.0,
    open_share=0.2,
    search_share=0.6,
    drift=80.0,
)
