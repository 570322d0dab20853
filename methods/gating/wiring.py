"""Where gates sit in a network: which layer carries a head, which ones are masked, which ones can be skipped."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from greenprune.methods.gating.heads import GateHead
from greenprune.methods.gating.state import GateState
from greenprune.methods.gating.wrappers import Gated
from greenprune.methods.structure import outputs
from greenprune.methods.structure.inputs import Inputs
from greenprune.methods.structure.macs import CONVOLUTIONS
from greenprune.methods.structure.trace import Structure
from torch import Tensor, nn

if TYPE_CHECKING:
    from greenprune.methods.gating.options import GatingOptions


SAME = 1e-3
"""Of two outputs, relative to their size: what skipping a branch instead of masking it may change."""


def wrap(
    model: nn.Module,
    structure: Structure,
    gated: Tensor,
    state: GateState,
    options: GatingOptions,
    device: torch.device,
    generator: torch.Generator,
) -> None:
    """Put a `Gated` around every layer that masks, skips or decides, in place."""
    sites = _decision_sites(structure, gated)
    masked_layers = _masked_layers(structure, gated)
    ends = {b.end: b.unit for b in structure.branches if gated[b.unit]}
    modules = dict(model.named_modules())
    for name, layer in structure.layers.items():
        branches = tuple(b for b in layer.branches if gated[b])
        into = _own_units(layer.in_units, gated) if layer.masks_input else None
        if not (name in sites or name in masked_layers or branches or into is not None):
            continue
        inner = modules[name]
        units = _own_units(layer.out_units, gated) if name in masked_layers else None
        wrapper = Gated(inner, state, None if units is None else units.to(device))
        if isinstance(inner, nn.LayerNorm):
            wrapper.channel_dim = layer.channel_dim
        if into is not None:
            wrapper.input_units = into.to(device)
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
        put(model, inner, wrapper)


def unwrap(model: nn.Module) -> None:
    """Take every `Gated` away again, in place; the layers themselves stay."""
    for module in list(model.modules()):
        if isinstance(module, Gated):
            put(model, module, module.inner)


def put(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` wherever `old` is, under all its names."""
    for parent in list(model.modules()):
        for leaf, child in parent._modules.items():
            if child is old and parent is not new:
                parent._modules[leaf] = new


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


def _own_units(units: Tensor, gated: Tensor) -> Tensor | None:
    """The gate of each channel, the last one (always open) where it has none; None when no channel has one."""
    padded = torch.cat([gated, gated.new_zeros(1)])  # FIXED is -1: the last entry
    return torch.where(padded[units], units, len(gated)) if padded[units].any() else None


def _masked_layers(structure: Structure, gated: Tensor) -> set[str]:
    """Layers whose output carries the masks of gated units."""
    result = {branch.end for branch in structure.branches if gated[branch.unit]}
    for name, layer in structure.layers.items():
        if layer.masks_output and _own_units(layer.out_units, gated) is not None:
            result.add(name)
    return result


def find_skippable(network: nn.Module, structure: Structure, gated: Tensor, state: GateState, inputs: Inputs) -> None:
    """Fill in `state.skippable`: the branches that can be left out instead of masked, found by trying on `inputs`.

    What is left of a branch between its layers (a reshape to a fixed size, say) need not take what comes instead.
    """
    consensus = torch.ones(structure.units, dtype=torch.bool, device=inputs.device)
    shift = torch.zeros((), device=inputs.device)

    def run(closed: list[int], inputs: Inputs = inputs) -> Any:
        opened = consensus.clone()
        opened[closed] = False
        state.begin(inputs, searching=False, shift=shift, consensus=opened)
        return inputs.call(network)

    def same(units: list[int]) -> bool:
        state.skippable = set()
        expected = run(units)
        state.skippable = set(units)
        try:
            got = run(units)
        except Exception:  # the user's forward, on shapes it was not made for
            return False
        return outputs.difference(expected, got).relative <= SAME

    branches = [b.unit for b in structure.branches if gated[b.unit]]
    training = [(m, m.training) for m in network.modules()]
    network.eval()
    with torch.no_grad():
        state.scales = _shapes_scale(state, run, inputs)
        good = set(branches) if same(branches) else {unit for unit in branches if same([unit])}
    for module, mode in training:
        module.training = mode
    state.skippable = good


def _shapes_scale(state: GateState, run: Callable[..., Any], inputs: Inputs) -> bool:
    """Whether the first dimension of what each branch gives grows with the batch, found by running on twice as many."""
    state.skippable, state.scales = set(), True
    run([])
    once = dict(state.end_shapes)
    state.end_shapes.clear()
    try:
        run([], inputs.twice())
    except Exception:  # the user's forward, on a batch it was not made for
        return False
    return once == state.end_shapes
