"""What was used in a phase of a program so far: sums of readings, by kind, and how they are named in a log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from greenprune.bench.energy.carbon.intensity import J_PER_KWH
from greenprune.bench.energy.reading import Kind, Reading


@dataclass
class Account:
    """Sums over windows. Bounds add up, which is never too narrow. Kinds are never added to one another."""

    duration_s: float = 0.0
    samples: float = 0.0
    energy_j: dict[str, tuple[float, float, float]] = field(default_factory=dict)  # by kind: energy, low, high
    lost: dict[str, str] = field(default_factory=dict)  # kinds whose sum is not known, and why
    warnings: dict[str, None] = field(default_factory=dict)  # each once, in order

    def add(self, reading: Reading) -> None:
        self.duration_s += reading.duration_s
        self.warnings |= dict.fromkeys(reading.warnings)
        for kind in get_args(Kind):
            energy_j, bounds_j = reading.energy_j(kind), reading.bounds_j(kind)
            if energy_j is None or bounds_j is None:
                failed = [source for source in reading.sources if source.kind == kind and source.energy_j is None]
                if failed:
                    self.lost.setdefault(kind, "; ".join(f"{source.name}: {source.reason}" for source in failed))
                continue
            so_far = self.energy_j.get(kind, (0.0, 0.0, 0.0))
            self.energy_j[kind] = (so_far[0] + energy_j, so_far[1] + bounds_j[0], so_far[2] + bounds_j[1])

    def join(self, other: Account) -> None:
        """Add what another account holds."""
        self.duration_s += other.duration_s
        self.samples += other.samples
        self.warnings |= other.warnings
        self.lost = other.lost | self.lost
        for kind, (energy_j, low_j, high_j) in other.energy_j.items():
            so_far = self.energy_j.get(kind, (0.0, 0.0, 0.0))
            self.energy_j[kind] = (so_far[0] + energy_j, so_far[1] + low_j, so_far[2] + high_j)

    def metrics(self, prefix: str, name: str = "", gco2e_per_kwh: float | None = None) -> dict[str, float]:
        """Figures for a log: `PREFIX/KIND/NAMEj`, with `low_j`, `high_j` and the same per sample.

        A kind of which a part could not be read is not there: it would be too little.
        """
        found: dict[str, float] = {}
        for kind, (energy_j, low_j, high_j) in self.energy_j.items():
            if kind in self.lost:
                continue
            for bound, joules in (("", energy_j), ("low_", low_j), ("high_", high_j)):
                found[f"{prefix}/{kind}/{name}{bound}j"] = joules
                if self.samples:
                    found[f"{prefix}/{kind}/{name}{bound}j_per_sample"] = joules / self.samples
            if gco2e_per_kwh is not None:
                found[f"{prefix}/{kind}/{name}gco2e"] = energy_j / J_PER_KWH * gco2e_per_kwh
        return found

    def state(self) -> dict[str, Any]:
        """Plain data, for a checkpoint."""
        return {
            "duration_s": self.duration_s,
            "samples": self.samples,
            "energy_j": {kind: list(joules) for kind, joules in self.energy_j.items()},
            "lost": dict(self.lost),
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Account:
        return cls(
            duration_s=state["duration_s"],
            samples=state["samples"],
            energy_j={kind: (joules[0], joules[1], joules[2]) for kind, joules in state["energy_j"].items()},
            lost=dict(state["lost"]),
            warnings=dict.fromkeys(state["warnings"]),
        )
