"""Where gates sit in a network: which layer carries a head, which ones are masked, which ones can be skipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from methods.gated_modules import Gated, GateHead, GateState
from methods.macs import CONVOLUTIONS, COUNTED
from methods.structure import BATCH_NORMS, FIXED, Structure

if TYPE_CHECKING:
    from methods.gating_options import GatingOptions


def wrap(
    model: nn.Module,
    structure: Structure,
    gated: Tensor,
    state: GateState,
    options: GatingOptions,
    example_inputs: Tensor,
    generator: torch.Generator,
) -> None:
    """Put a `Gated` around every layer that masks, skips or decides, in place."""
    device = example_inputs.device
    sites = _decision_sites(structure, gated)
    masked_layers = _masked_layers(model, structure, gated)
    ends = {b.end: b.unit for b in structure.branches if gated[b.unit]}
    modules = dict(model.named_modules())
    for name, layer in structure.layers.items():
        branches = tuple(b for b in layer.branches if gated[b])
        if not (name in sites or name in masked_layers or branches):
            continue
        inner = modules[name]
        units = torch.where(layer.out_units == FIXED, structure.units, layer.out_units)
        units[units < structure.units] = torch.where(
            gated[units[units < structure.units]], units[units < structure.units], structure.units
        )
        wrapper = Gated(inner, state, units.to(device) if name in masked_layers else None)
        wrapper.branches, wrapper.ends = branches, ends.get(name)
        if name in sites:
            decided, wrapper.decided_branches = sites[name]
            features = len(layer.in_units)
            channel_dim = 1 if isinstance(inner, CONVOLUTIONS) else -1
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
                head = GateHead(features, decided.to(device), options.hidden, channel_dim)
                nn.init.normal_(head.last.weight, std=0.01)
                nn.init.normal_(head.last.bias, mean=options.initial_logit, std=options.initial_spread)
                with torch.no_grad():  # a layer's gate starts at the mean: the task decides when it goes
                    head.last.bias[len(decided) - len(wrapper.decided_branches) :] = options.initial_logit
            wrapper.head = head.to(device)
        wrapper.train(inner.training)
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, wrapper)


def unwrap(model: nn.Module) -> None:
    """Take every `Gated` away again, in place; the layers themselves stay."""
    for name, module in list(model.named_modules()):
        if isinstance(module, Gated):
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, module.inner)


def _decision_sites(structure: Structure, gated: Tensor) -> dict[str, tuple[Tensor, tuple[int, ...]]]:
    """Where heads sit: layer name -> (units decided from its input, which of them are branches, these last)."""
    channels: dict[str, list[int]] = {}
    for group in structure.groups:
        if gated[group.start]:
            channels.setdefault(group.name, []).extend(range(group.start, group.start + group.width))
    branches: dict[str, tuple[int, ...]] = {}
    for branch in structure.branches:
        if gated[branch.unit]:
            first = next(m for m in branch.modules if m in structure.layers and structure.layers[m].macs)
            branches[first] = (*branches.get(first, ()), branch.unit)
    return {
        name: (torch.tensor(channels.get(name, []) + list(branches.get(name, ()))), branches.get(name, ()))
        for name in structure.layers
        if name in channels or name in branches
    }


def _masked_layers(model: nn.Module, structure: Structure, gated: Tensor) -> set[str]:
    """Layers whose output carries the masks: every batch norm of gated channels, and producers no norm follows."""
    modules = dict(model.named_modules())
    result = set()
    normed: set[int] = set()
    for name, layer in structure.layers.items():
        if isinstance(modules[name], BATCH_NORMS):
            units = layer.out_units[layer.out_units != FIXED]
            if gated[units].any():
                result.add(name)
                normed |= set(units.tolist())
    for group in structure.groups:
        if gated[group.start] and group.start not in normed:
            result |= set(group.producers)
    for branch in structure.branches:
        if gated[branch.unit]:
            result.add(branch.end)
    return {name for name in result if isinstance(modules[name], (*BATCH_NORMS, *COUNTED))}
