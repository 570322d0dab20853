"""Networks by name: those defined here, classifiers of torchvision, timm and transformers, a user's own factory.

What a suite asks of them, whether a name is known, needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenprune.bench.models.named import check, names

if TYPE_CHECKING:
    from greenprune.bench.models.network import build

__all__ = ["build", "check", "names"]


def __getattr__(name: str) -> Any:
    if name != "build":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from greenprune.bench.models.network import build

    return build
