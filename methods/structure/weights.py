"""The weights of a network as units see them: which entries of which tensor belong to which unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from greenprune.methods.structure.macs import TRANSPOSED
from greenprune.methods.structure.units import Layer, Structure, projections
from torch import Tensor, nn


@dataclass(frozen=True)
class Side:
    """One dimension of a layer's weight.

    Attributes:
        layer: its name.
        parameter: name of the weight in it.
        dim: the dimension.
        units: (entries along it,) the unit of each, or U for those that cannot be removed.
        writes: whether these are the channels that the layer writes; of a norm those that it scales.
        grouped: a convolution of several groups, whose inputs and outputs go together.
    """

    layer: str
    parameter: str
    dim: int
    units: Tensor
    writes: bool
    grouped: bool = False

    def weight(self, modules: dict[str, nn.Module]) -> nn.Parameter:
        return getattr(modules[self.layer], self.parameter)  # type: ignore[no-any-return]

    def norms(self, modules: dict[str, nn.Module], p: int) -> Tensor:
        """(entries,) float32 on the CPU: the p-norm of all weights of each entry."""
        weight = self.weight(modules).detach().float().movedim(self.dim, 0)
        return weight.reshape(len(weight), -1).norm(p=p, dim=1).cpu()


class Scaler:
    """Multiplies what belongs to units by a factor of theirs, where the weights lie. An entry of several sides takes several.

    Args:
        sides: what is multiplied; weights are looked up by name each time.
    """

    def __init__(self, sides: Sequence[Side]) -> None:
        self._sides = tuple(sides)
        self._units: dict[tuple[int, torch.device], Tensor] = {}  # copied once, not in every step

    @torch.no_grad()
    def __call__(self, model: nn.Module, factors: Tensor) -> None:
        """
        Args:
            factors: (U + 1,), the last for what cannot be removed.
        """
        modules = dict(model.named_modules())
        here: dict[torch.device, Tensor] = {}
        for number, side in enumerate(self._sides):
            weight = side.weight(modules)
            place = (number, weight.device)
            if place not in self._units:
                self._units[place] = side.units.to(weight.device)
            if weight.device not in here:
                here[weight.device] = factors.to(weight.device)
            shape = [-1 if d == side.dim else 1 for d in range(weight.ndim)]
            weight.mul_(here[weight.device][self._units[place]].to(weight.dtype).view(shape))


def sides(model: nn.Module, structure: Structure) -> list[Side]:
    """Both sides of every weight that channels are cut from, and of every norm its scale."""
    modules = dict(model.named_modules())
    return [
        side for layer in structure.layers.values() for side in _sides_of(layer, modules[layer.name], structure.units)
    ]


def written(model: nn.Module, structure: Structure) -> list[Side]:
    """Everything whose entries make channels: weights by the channels that they write, biases, scales and shifts of norms,
    and parameters outside the layers. Where all entries of a unit are 0 its channels are, whatever the input."""
    modules, units = dict(model.named_modules()), structure.units
    found = [side for side in sides(model, structure) if side.writes]
    for layer in structure.layers.values():
        out = torch.where(layer.out_units < 0, units, layer.out_units)
        for name in ("bias", "in_proj_bias"):
            bias = modules[layer.name]._parameters.get(name)
            if bias is not None and bias.shape == out.shape:
                found.append(Side(layer.name, name, 0, out, writes=True))
    for parameter in structure.parameters:
        owner, _, leaf = parameter.name.rpartition(".")
        if modules[owner]._parameters.get(leaf) is not None:
            own = torch.where(parameter.units < 0, units, parameter.units)
            found.append(Side(owner, leaf, parameter.dim, own, writes=True))
    return found


def _sides_of(layer: Layer, module: nn.Module, units: int) -> list[Side]:
    if isinstance(module, nn.MultiheadAttention) and len(projections(module)) == 3:
        out, into = (torch.where(u < 0, units, u) for u in (layer.out_units, layer.in_units))
        found = [Side(layer.name, "q_proj_weight", 1, into, writes=False)]
        return found + [
            Side(layer.name, n, 0, part, writes=True) for n, part in zip(projections(module), out.chunk(3), strict=True)
        ]
    name = next((n for n in ("weight", "in_proj_weight") if module._parameters.get(n) is not None), None)
    if name is None:
        return []
    weight: Tensor = getattr(module, name)
    out, into = (torch.where(u < 0, units, u) for u in (layer.out_units, layer.in_units))
    if weight.ndim == 1:
        found = [Side(layer.name, name, 0, out, writes=True)]
    elif layer.depthwise:
        found = [Side(layer.name, name, 0, into if isinstance(module, TRANSPOSED) else out, writes=True, grouped=True)]
    else:
        rows, columns = (1, 0) if isinstance(module, TRANSPOSED) or getattr(layer, "turned", False) else (0, 1)
        found = [Side(layer.name, name, rows, out, writes=True), Side(layer.name, name, columns, into, writes=False)]
    return [side for side in found if len(side.units) == weight.shape[side.dim]]
