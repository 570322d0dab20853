"""greenprune's harness: suites in, records out. `bench.load_model(folder)` gives a run's network back."""

from __future__ import annotations

from typing import Any

__all__ = ["UserError", "load_data", "load_model"]

from bench.errors import UserError


def __getattr__(name: str) -> Any:
    # Late, so that reading records and measuring energy do not import torch.
    if name == "load_model":
        from bench.store import load_model

        return load_model
    if name == "load_data":
        from bench.data import load

        return load
    raise AttributeError(f"module 'bench' has no attribute {name!r}")
