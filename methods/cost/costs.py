"""What a partly removed network costs: multiply-accumulates, parameters, or measured seconds or joules.

A cost is a sum of parts, most of them one layer each, some a product of activations, as in attention. A part depends on how
many of its input and of its output channels are open (and of the rows that it runs over, where these can go), and counts only
while every residual branch that it lies in is there. Exact for 0/1 gates, differentiable in
between (method.md calls it cost(p); the formulation is ours, arXiv 2302.10798 prints none).

`ProductCost` (a part costs a constant x inputs x outputs) serves MACs and parameters; `measured_cost.TableCost`
interpolates in tables of measured seconds or joules.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from greenprune.methods.cost.kinds import CostKind
from greenprune.methods.structure.units import ALWAYS_OPEN, BATCH_NORMS, FIXED, Branch, ChannelGroup, Remnant, Structure
from torch import Tensor, nn

Floats = npt.NDArray[np.float64]

SIDES = 3
"""Of a part: its inputs, its outputs, and what else it runs over."""


@dataclass(frozen=True)
class Part:
    """A piece of a network's cost, for instance of one layer.

    Attributes:
        name: of the layer.
        in_units, out_units: unit of each input and output channel, or FIXED; `ALWAYS_OPEN` where the side does not matter.
        branches: units of the residual branches that it lies in.
        left: what it costs when one of these is closed, in MACs or parameters; 0 unless the branch has a `Remnant`.
        row_units: as the first two, of a third side.
    """

    name: str
    in_units: Tensor
    out_units: Tensor
    branches: tuple[int, ...] = ()
    left: float = 0.0
    row_units: Tensor = ALWAYS_OPEN

    @property
    def sides(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.in_units, self.out_units, self.row_units


class Cost(ABC):
    """Cost of a network as a function of which units are open, as a fraction of the dense network's.

    Args:
        structure: of the network as it is; while a search shrinks it, of the partly cut one.
        parts: what costs something.
        reference: cost of the dense network, in MACs, parameters, s or J. Of the *original* one when `structure` is of a
            network that was cut before.
        device: where `__call__` computes.
    """

    kind: CostKind
    staircase = False  # whether single channels may save nothing, so that only some widths are worth having
    where = ""  # it was measured, in words for people

    def __init__(
        self, structure: Structure, parts: Sequence[Part], reference: float, device: torch.device | str = "cpu"
    ) -> None:
        self.structure = structure
        self.parts = tuple(parts)
        self.reference = reference
        self.device = device
        units, branches = structure.units, len(structure.branches)
        # Whole channels are counted and then divided: sums of ones are exact in float32, sums of rounded shares are not.
        self._channels = [_channels([p.sides[i] for p in self.parts], units).to(device) for i in range(SIDES)]
        inside = torch.zeros(len(self.parts), branches, dtype=torch.bool)
        for i, part in enumerate(self.parts):
            for unit in part.branches:
                inside[i, unit - (units - branches)] = True
        self._outside = ~inside.to(device)
        self._left = np.array([part.left for part in self.parts]) / self.reference
        self._left_soft = torch.tensor(self._left, dtype=torch.float32, device=device)
        self.widths = np.array([[len(side) for side in p.sides] for p in self.parts], dtype=float).reshape(-1, SIDES)

    def __call__(self, openness: Tensor) -> Tensor:
        """Cost as a fraction of dense.

        Args:
            openness: (U,) or (B, U), each unit's gate, in [0, 1]. Differentiable.

        Returns:
            () or (B,).
        """
        with torch.autocast(torch.device(self.device).type, enabled=False):  # bfloat16 would round a budget by 0.4 %
            padded = torch.cat([openness, openness.new_ones(*openness.shape[:-1], 1)], dim=-1)
            gates = openness[..., openness.shape[-1] - self._outside.shape[1] :]
            alive = torch.where(self._outside, 1.0, gates.unsqueeze(-2)).prod(-1)
            shares = [(padded @ side.T) / side.sum(1) for side in self._channels]
            return (self._fractions(*shares) * alive + self._left_soft * (1.0 - alive)).sum(-1)

    @abstractmethod
    def _fractions(self, inputs: Tensor, outputs: Tensor, rows: Tensor) -> Tensor:
        """(..., parts) cost of each part as a fraction of the whole network's, from the open shares of its sides."""

    @abstractmethod
    def count(self, channels: Floats, alive: Floats) -> Floats:
        """Exact cost of choices, as a fraction of dense.

        Args:
            channels: (..., parts, SIDES) open input and output channels, and rows, of each part.
            alive: (..., parts) 1 where all branches of the part are there, else 0.

        Returns:
            (...).
        """

    def prices(self) -> Tensor:
        """(U,) what closing a little of each unit saves: the gradient of the cost while everything is open."""
        openness = torch.ones(self.structure.units, device=self.device, requires_grad=True)
        with torch.enable_grad():
            (prices,) = torch.autograd.grad(self(openness), openness)
        return prices

    def share_under(self, gated: Tensor) -> float:
        """The share of the dense cost in parts that some unit of `gated` (U,) bool shrinks or removes."""
        closed = (~gated.cpu()).float().to(self.device)
        with torch.no_grad():
            padded = torch.cat([1.0 - closed, closed.new_zeros(1)])
            touched = sum(
                (padded @ side.T for side in self._channels), start=torch.zeros(len(self.parts)).to(self.device)
            )
            gates = 1.0 - closed[len(closed) - self._outside.shape[1] :]
            touched = touched + ((~self._outside).float() @ gates)
            dense = self._fractions(*(torch.ones(len(self.parts), device=self.device) for _ in range(SIDES)))
        return float((dense * (touched > 0)).sum() / dense.sum())

    def steps(self, group: ChannelGroup) -> tuple[int, ...]:
        """Widths of `group` that are worth considering, ascending; without `staircase` all of them."""
        return tuple(range(1, group.width + 1))


class ProductCost(Cost):
    """Each part costs `dense[i]` x share of open inputs x share of open outputs x share of open rows.

    Args:
        dense: cost of each part while everything is open, in MACs or parameters.
        reference: of the dense network; default the sum of `dense`.
    """

    def __init__(
        self,
        kind: CostKind,
        structure: Structure,
        parts: Sequence[Part],
        dense: Sequence[float],
        device: torch.device | str = "cpu",
        reference: float | None = None,
    ) -> None:
        super().__init__(structure, parts, sum(dense) if reference is None else reference, device)
        self.kind = kind
        self._dense = np.array(dense) / self.reference
        self._base = torch.tensor(self._dense, dtype=torch.float32, device=device)

    def _fractions(self, inputs: Tensor, outputs: Tensor, rows: Tensor) -> Tensor:
        return self._base * inputs * outputs * rows

    def count(self, channels: Floats, alive: Floats) -> Floats:
        return (self._dense * alive * (channels / self.widths).prod(-1) + self._left * (1.0 - alive)).sum(-1)


class MacCost(ProductCost):
    """Multiply-accumulates for one image, of layers and of products without one; `reference` in MACs."""

    def __init__(
        self, structure: Structure, device: torch.device | str = "cpu", reference: float | None = None
    ) -> None:
        layers = [layer for layer in structure.layers.values() if layer.macs]
        remnants = {name: macs for r in _remnants(structure) for name, macs in zip(r.convolutions, r.macs, strict=True)}
        # A depthwise convolution has one input channel per output channel: its cost is linear in them, not quadratic.
        parts = [
            Part(
                layer.name, ALWAYS_OPEN if layer.depthwise else layer.in_units, layer.out_units, layer.branches,
                remnants.get(layer.name, 0.0), layer.row_units,
            )
            for layer in layers
        ]  # fmt: skip
        for product in structure.products:  # recurrent layers and alike have no side that can shrink
            sides = (*product.sides, ALWAYS_OPEN, ALWAYS_OPEN, ALWAYS_OPEN)
            parts.append(Part(product.name, sides[0], sides[1], product.branches, 0.0, sides[2]))
        dense = [layer.macs for layer in layers] + [product.macs for product in structure.products]
        super().__init__("macs", structure, parts, dense, device, reference)


class ParamCost(ProductCost):
    """Parameters: all that `count_params` counts. `reference` in parameters.

    Weights count inputs x outputs, biases and the scale and shift of a norm count outputs; parameters of other modules
    never shrink, but go with the residual branch that they lie in.

    Args:
        model: of `structure`.
    """

    def __init__(
        self,
        structure: Structure,
        model: nn.Module,
        device: torch.device | str = "cpu",
        reference: float | None = None,
    ) -> None:
        modules = dict(model.named_modules())
        parts: list[Part] = []
        dense: list[int] = []
        seen: set[int] = set()
        with_remnant = {b.unit for b in structure.branches if b.remnant is not None}
        kernels = {name: n for r in _remnants(structure) for name, n in zip(r.convolutions, r.params, strict=True)}
        for layer in structure.layers.values():
            module = modules[layer.name]
            for parameter in module.parameters(recurse=False):
                if id(parameter) in seen:  # shared with another layer
                    continue
                seen.add(id(parameter))
                linear = layer.depthwise or parameter.ndim == 1 or isinstance(module, BATCH_NORMS)
                inputs = ALWAYS_OPEN if linear else layer.in_units
                left = 0
                if with_remnant.issuperset(layer.branches) and layer.branches:  # norms and biases stay
                    left = kernels.get(layer.name, parameter.numel()) if parameter.ndim > 1 else parameter.numel()
                parts.append(Part(layer.name, inputs, layer.out_units, layer.branches, left))
                dense.append(parameter.numel())
        inside = _parameters_in_branches(model, structure.branches)
        by_channel: dict[str, list[Tensor]] = {}  # layer scale, for example, or tables of positions
        for p in structure.parameters:
            by_channel.setdefault(p.name, []).append(p.units)
        for name, parameter in model.named_parameters():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                sides = (*by_channel.get(name, []), ALWAYS_OPEN, ALWAYS_OPEN, ALWAYS_OPEN)
                parts.append(Part(name, sides[1], sides[0], tuple(inside.get(name, ())), 0.0, sides[2]))
                dense.append(parameter.numel())
        super().__init__("params", structure, parts, dense, device, reference)


def _remnants(structure: Structure) -> list[Remnant]:
    return [b.remnant for b in structure.branches if b.remnant is not None]


def _parameters_in_branches(model: nn.Module, branches: Iterable[Branch]) -> dict[str, Sequence[int]]:
    """Units of the branches with which each parameter goes, by its name."""
    branches = list(branches)
    names = [name for name, _ in model.named_parameters()]
    found: dict[str, Sequence[int]] = {
        n: [b.unit for b in branches if n in b.parameters or b.holds(n.rpartition(".")[0])] for n in names
    }
    return {name: units for name, units in found.items() if units}


def _channels(sides: Sequence[Tensor], units: int) -> Tensor:
    """(parts, U + 1): how many of a side's channels belong to each unit; the last column is for FIXED channels."""
    channels = torch.zeros(len(sides), units + 1)
    for row, channel_units in zip(channels, sides, strict=True):
        index = torch.where(channel_units == FIXED, units, channel_units)
        row += torch.bincount(index, minlength=units + 1)
    return channels
