"""The cost of a partly removed network, and meeting a budget exactly.

Cost model: a layer's multiply-accumulates scale with the share of its input channels that are open, with the share of
its output channels that are open, and with the gates of the residual branches it lies in. Exact for 0/1 gates,
differentiable in between (method.md calls it cost(p); the formulation is ours, arXiv 2302.10798 prints none).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from methods.structure import FIXED, Structure


class MacCost:
    """Multiply-accumulates as a function of which units are open, as a fraction of the dense network's.

    Args:
        structure: of the network.
        device: where `__call__` computes.
    """

    def __init__(self, structure: Structure, device: torch.device | str = "cpu") -> None:
        layers = [layer for layer in structure.layers.values() if layer.macs]
        units = structure.units
        self.structure = structure
        # Rows: layers. Columns: units, and a last one for channels that are always open. Entry: share of the channels.
        self._into = torch.stack([_shares(layer.in_units, units) for layer in layers]).to(device)
        self._out = torch.stack([_shares(layer.out_units, units) for layer in layers]).to(device)
        # A depthwise convolution has one input channel per output channel: its cost is linear in them, not quadratic.
        for i, layer in enumerate(layers):
            if layer.depthwise:
                self._into[i] = 0.0
                self._into[i, -1] = 1.0
        inside = torch.zeros(len(layers), len(structure.branches), dtype=torch.bool)
        for i, layer in enumerate(layers):
            for unit in layer.branches:
                inside[i, unit - (units - len(structure.branches))] = True
        self._outside = ~inside.to(device)
        self._base = torch.tensor([layer.macs / structure.macs for layer in layers], device=device)

    def __call__(self, openness: Tensor) -> Tensor:
        """Cost as a fraction of dense.

        Args:
            openness: (U,) or (B, U), each unit's gate, in [0, 1]. Differentiable.

        Returns:
            () or (B,).
        """
        always = openness.new_ones(*openness.shape[:-1], 1)
        padded = torch.cat([openness, always], dim=-1)
        gates = openness[..., openness.shape[-1] - self._outside.shape[1] :]
        branch = torch.where(self._outside, 1.0, gates.unsqueeze(-2)).prod(-1)
        return (self._base * (padded @ self._into.T) * (padded @ self._out.T) * branch).sum(-1)


def _shares(channel_units: Tensor, units: int) -> Tensor:
    """(U + 1,): share of a layer's channels that belong to each unit; the last entry is for FIXED channels."""
    index = torch.where(channel_units == FIXED, units, channel_units)
    return torch.bincount(index, minlength=units + 1).float() / len(channel_units)


class BudgetError(ValueError):
    """The budget cannot be met by this network; the message states the reachable floor."""


def floor(structure: Structure, removable: Tensor | None = None) -> float:
    """The smallest fraction of the dense MACs that removal can reach: every branch gone, one channel left per group.

    Args:
        removable: (U,) bool, the units that may be removed; default all.
    """
    openness = torch.zeros(structure.units) if removable is None else (~removable).float()
    for group in structure.groups:
        if not openness[group.units].any():
            openness[group.start] = 1.0
    return float(MacCost(structure)(openness))


def check_reachable(structure: Structure, keep: float, removable: Tensor | None = None) -> None:
    """Raise BudgetError, naming the floor, when removing all that `removable` allows would still cost more than `keep`."""
    least = floor(structure, removable)
    if keep < least:
        raise BudgetError(f"keep = {keep:g} lies below the floor of this network, {least:.3f} of the dense MACs")


def select(
    structure: Structure, scores: Tensor, keep: float, tolerance: float, removable: Tensor | None = None
) -> Tensor:
    """The units to keep so that the cost lies in [keep - tolerance, keep]: the highest scores, as far as the budget goes.

    Units are closed in ascending order of score until the budget is met. A unit is passed over when closing it would
    undershoot `keep - tolerance`, or empty a group of channels (only a branch's gate removes a layer).

    Args:
        structure: of the network.
        scores: (U,), higher is kept longer. Units of different groups are compared: normalise before if need be.
        keep, tolerance: fractions of the dense MACs.
        removable: (U,) bool, the units that may be closed; default all.

    Returns:
        (U,) bool.

    Raises:
        BudgetError: no selection reaches the interval.
    """
    count = _Counter(structure)
    for unit in torch.argsort(scores.detach().float().cpu(), stable=True).tolist():
        if count.cost() <= keep:
            break
        if (
            (removable is None or removable[unit])
            and count.closable(unit)
            and count.cost_without(unit) >= keep - tolerance
        ):
            count.close(unit)
    if not keep - tolerance <= count.cost() <= keep:
        raise BudgetError(
            f"a budget of {keep:g} cannot be met within {tolerance:g}: the nearest selection costs {count.cost():.3f} of "
            f"the dense MACs; the floor of this network is {floor(structure, removable):.3f}"
        )
    return torch.from_numpy(count.open)


class _Counter:
    """Open channels per layer, kept up to date while units close one by one (exact cost in O(layers) per question)."""

    def __init__(self, structure: Structure) -> None:
        layers = [layer for layer in structure.layers.values() if layer.macs]
        self.open = np.ones(structure.units, dtype=bool)
        self._first_branch = structure.units - len(structure.branches)
        self._macs = np.array([layer.macs / structure.macs for layer in layers])
        self._width = np.array([[len(layer.in_units), len(layer.out_units)] for layer in layers])
        self._depthwise = np.array([layer.depthwise for layer in layers])
        self._count = self._width.copy()
        self._branches = [list(layer.branches) for layer in layers]
        self._alive = np.ones(len(layers), dtype=bool)
        self._touches: list[list[tuple[int, int, int]]] = [
            [] for _ in range(structure.units)
        ]  # (layer, side, channels)
        self._inside: dict[int, list[int]] = {b.unit: [] for b in structure.branches}
        for i, layer in enumerate(layers):
            for side, table in enumerate((layer.in_units, layer.out_units)):
                for unit, n in zip(*np.unique(table.numpy(), return_counts=True), strict=True):
                    if unit != FIXED:
                        self._touches[unit].append((i, side, int(n)))
            for branch in layer.branches:
                self._inside[branch].append(i)
        self._group = np.empty(self._first_branch, dtype=int)
        for i, group in enumerate(structure.groups):
            self._group[group.units] = i
        self._left = np.array([group.width for group in structure.groups])

    def cost(self) -> float:
        share = self._count / self._width
        share[self._depthwise, 0] = 1.0
        # Rounded: a sum of shares just above 1 would cost the whole network a channel at keep = 1.
        return round(float((self._macs * self._alive * share[:, 0] * share[:, 1]).sum()), 12)

    def closable(self, unit: int) -> bool:
        if not self.open[unit]:
            return False
        return unit >= self._first_branch or self._left[self._group[unit]] > 1

    def cost_without(self, unit: int) -> float:
        self.close(unit)
        cost = self.cost()
        self._change(unit, opening=True)
        return cost

    def close(self, unit: int) -> None:
        self._change(unit, opening=False)

    def _change(self, unit: int, *, opening: bool) -> None:
        self.open[unit] = opening
        sign = 1 if opening else -1
        if unit >= self._first_branch:
            for layer in self._inside[unit]:
                self._alive[layer] = all(self.open[self._branches[layer]])
            return
        self._left[self._group[unit]] += sign
        for layer, side, n in self._touches[unit]:
            self._count[layer, side] += sign * n
