"""What an energy window returns. Plain data: importable without torch, stored as it is in a record."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["measured", "sampled", "modelled"]
"""measured: an energy counter (NVML, RAPL). sampled: integrated power. modelled: no sensor, CPU time x watts."""


class SourceReading(BaseModel):
    """Energy of one source in one window.

    `energy_j` is None exactly when `valid` is False; `reason` then says why. `low_j` and `high_j` bound the figure
    (for a counter: quantisation; for a model: the range of its assumptions).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str  # "nvml:0", "rapl:package-0", "cpu", "ram"
    kind: Kind
    energy_j: float | None
    low_j: float | None = None
    high_j: float | None = None
    valid: bool = True
    reason: str | None = None
    note: str | None = None  # e.g. "12.3 W per busy core, from CodeCarbon's TDP table"


class Reading(BaseModel):
    """Everything that was read in one window. Kinds are never added to one another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    duration_s: float
    sources: tuple[SourceReading, ...] = ()
    warnings: tuple[str, ...] = ()

    def energy_j(self, kind: Kind) -> float | None:
        """Joules of all sources of `kind`; None when there is none, or when one of them is invalid."""
        parts = [s.energy_j for s in self.sources if s.kind == kind]
        return sum(parts) if parts and all(p is not None for p in parts) else None  # type: ignore[arg-type]

    def bounds_j(self, kind: Kind) -> tuple[float, float] | None:
        """Sum of the low and of the high bounds of all sources of `kind`, None as in `energy_j`."""
        if self.energy_j(kind) is None:
            return None
        parts = [s for s in self.sources if s.kind == kind]
        low = sum(s.energy_j if s.low_j is None else s.low_j for s in parts)  # type: ignore[misc]
        high = sum(s.energy_j if s.high_j is None else s.high_j for s in parts)  # type: ignore[misc]
        return low, high
