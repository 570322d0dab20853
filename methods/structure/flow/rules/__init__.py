"""What each operation does to labels: one file a kind of operations, registered under ATen's names."""

from greenprune.methods.structure.flow.rules import (
    elementwise,
    indexing,
    layers,
    norms,
    reductions,
    shapes,
    spatial,
)
from greenprune.methods.structure.flow.rules.registry import RULES

__all__ = ["RULES", "elementwise", "indexing", "layers", "norms", "reductions", "shapes", "spatial"]
