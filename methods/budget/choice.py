"""Which units are open, and the exact cost of that, kept up to date while units close one by one."""

from __future__ import annotations

import numpy as np
from greenprune.methods.cost.costs import Cost, Floats
from greenprune.methods.structure.units import FIXED, Structure


class Choice:
    """Open units and open channels of each part of the cost (exact cost in O(parts) per question).

    Args:
        structure: of the network.
        cost: what counts.
    """

    def __init__(self, structure: Structure, cost: Cost) -> None:
        self._cost = cost
        self.open = np.ones(structure.units, dtype=bool)
        self._first_branch = structure.units - len(structure.branches)
        self.channels = cost.widths.copy()
        self._branches = [list(part.branches) for part in cost.parts]
        self.alive = np.ones(len(cost.parts))
        # For each unit: (part, side, channels).
        self.touches: list[list[tuple[int, int, int]]] = [[] for _ in range(structure.units)]
        self._inside: dict[int, list[int]] = {b.unit: [] for b in structure.branches}
        for i, part in enumerate(cost.parts):
            for side, table in enumerate(part.sides):
                for unit, n in zip(*np.unique(table.numpy(), return_counts=True), strict=True):
                    if unit != FIXED:
                        self.touches[unit].append((i, side, int(n)))
            for branch in part.branches:
                self._inside[branch].append(i)
        self._group = np.empty(self._first_branch, dtype=int)
        for i, group in enumerate(structure.groups):
            self._group[group.units] = i
        self._left = np.array([group.width for group in structure.groups])

    def cost(self) -> float:
        """Of the open units, as a fraction of dense."""
        # Rounded: a sum of shares just above 1 would cost the whole network a channel at keep = 1.
        return round(float(self._cost.count(self.channels, self.alive)), 12)

    def closable(self, unit: int) -> bool:
        """Whether it is open, and not the last channel of its group."""
        if not self.open[unit]:
            return False
        return unit >= self._first_branch or self._left[self._group[unit]] > 1

    def cost_without(self, unit: int) -> float:
        """What would be left if `unit` were closed."""
        self.close(unit)
        cost = self.cost()
        self.reopen(unit)
        return cost

    def cost_with(self, unit: int) -> float:
        """What it would cost if the closed `unit` were open."""
        self.reopen(unit)
        cost = self.cost()
        self.close(unit)
        return cost

    def alive_without(self, branch: int) -> Floats:
        """(parts,) `alive` as it would be if `branch` were closed."""
        alive = self.alive.copy()
        alive[self._inside[branch]] = 0.0
        return alive

    def close(self, unit: int) -> None:
        self._change(unit, opening=False)

    def reopen(self, unit: int) -> None:
        self._change(unit, opening=True)

    def _change(self, unit: int, *, opening: bool) -> None:
        self.open[unit] = opening
        sign = 1 if opening else -1
        if unit >= self._first_branch:
            for part in self._inside[unit]:
                self.alive[part] = all(self.open[self._branches[part]])
            return
        self._left[self._group[unit]] += sign
        for part, side, n in self.touches[unit]:
            self.channels[part, side] += sign * n
