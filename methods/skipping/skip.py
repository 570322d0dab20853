"""Work that is really skipped at inference, image by image, under gates that look at the input.

A residual branch: the images that need it are gathered at its first layer, the branch runs on them alone, and its result
is scattered back at its last layer. Channels: a convolution is cut into blocks of output channels, and each block runs
on the images that need it. In training mode (and in eval mode with `Skipper.skip` off) everything runs and closed parts
are multiplied by 0, which gives the same result.

Masking single channels per image would skip nothing: images agree on all channels of a layer too rarely to be batched.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from greenprune.methods.gating.heads import GateHead
from greenprune.methods.skipping.layers import (
    BlockConv,
    BlockNorm,
    BranchEnd,
    BranchStart,
    Skipper,
    Wrapper,
    block_bounds,
)
from greenprune.methods.structure.macs import CONVOLUTIONS
from greenprune.methods.structure.units import BATCH_NORMS, Structure
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn


class BranchGate(BaseModel):
    """A removable layer under a gate: gathered at module `first`, scattered at module `end`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    first: str
    end: str


class BlockGate(BaseModel):
    """Channels under gates, in blocks: the convolutions that produce them (the first one decides) and their norms."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    producers: tuple[str, ...]
    norms: tuple[str, ...]
    blocks: int


class Layout(BaseModel):
    """Where the gates of a network sit; with the network's tensors it is all that is needed to rebuild it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    branches: tuple[BranchGate, ...]
    channels: tuple[BlockGate, ...]
    hidden: int


def find_gates(
    model: nn.Module, structure: Structure, *, layers: bool, channels: bool, blocks: int, hidden: int
) -> Layout:
    """Where gates can sit: on residual branches that begin with a convolution, and on channels inside of blocks."""
    modules = dict(model.named_modules())
    branches: list[BranchGate] = []
    for branch in structure.branches if layers else ():
        first = next((m for m in branch.modules if m in structure.layers and structure.layers[m].macs), None)
        if first is not None and isinstance(modules[first], CONVOLUTIONS) and first not in {b.first for b in branches}:
            branches.append(BranchGate(first=first, end=branch.end))
    gated: list[BlockGate] = []
    ends = [structure.layers[b.end] for b in structure.branches if b.end in structure.layers]
    in_streams = {u for end in ends for u in end.out_units.tolist()}
    for group in structure.groups if channels else ():
        units = torch.arange(group.start, group.start + group.width)
        inside = {structure.layers[p].branches for p in group.producers}
        whole = all(torch.equal(structure.layers[p].out_units, units) for p in group.producers)
        convs = all(isinstance(modules[p], CONVOLUTIONS) for p in group.producers)
        if not (whole and convs and len(inside) == 1) or in_streams & set(units.tolist()):
            continue
        norms = tuple(
            name
            for name, layer in structure.layers.items()
            if isinstance(modules[name], BATCH_NORMS) and torch.equal(layer.out_units, units)
        )
        gated.append(BlockGate(producers=group.producers, norms=norms, blocks=min(blocks, group.width)))
    return Layout(branches=tuple(branches), channels=tuple(gated), hidden=hidden)


def install(model: nn.Module, layout: Layout, skipper: Skipper, device: torch.device) -> list[GateHead]:
    """Put the gates of `layout` around the layers of `model`, in place; the heads, in the order of their units."""
    heads: list[GateHead] = []
    units = 0

    def head_for(name: str, blocks: int) -> GateHead:
        nonlocal units
        features = model.get_submodule(name).in_channels
        head = GateHead(features, torch.arange(units, units + blocks), layout.hidden, channel_dim=1).to(device)  # type: ignore[arg-type]
        units += blocks
        heads.append(head)
        return head

    planned = [(b.first, 1) for b in layout.branches] + [(g.producers[0], g.blocks) for g in layout.channels]
    ready = [head_for(name, blocks) for name, blocks in planned]
    for gate, head in zip(layout.channels, ready[len(layout.branches) :], strict=True):
        key = gate.producers[0]
        for name in gate.producers:
            _wrap(model, name, BlockConv, skipper, f"channels {key}", gate.blocks, head if name == key else None)
        for name in gate.norms:
            _wrap(model, name, BlockNorm, skipper, f"channels {key}", gate.blocks)
    for branch, head in zip(layout.branches, ready, strict=False):
        _wrap(model, branch.first, BranchStart, skipper, f"branch {branch.end}", head)
        _wrap(model, branch.end, BranchEnd, skipper, f"branch {branch.end}")
    return heads


def _wrap(model: nn.Module, name: str, wrapper: type[Wrapper], skipper: Skipper, key: str, *arguments: Any) -> None:
    inner = model.get_submodule(name)
    parent, _, leaf = name.rpartition(".")
    wrapped = wrapper(inner, skipper, key, *arguments)
    wrapped.train(inner.training)
    setattr(model.get_submodule(parent), leaf, wrapped)


class SkippingNetwork(nn.Module):
    """A network that skips: (B, ...) images to logits. `layout` rebuilds it around the dense network, see `rebuild`."""

    def __init__(self, network: nn.Module, layout: Layout, skipper: Skipper) -> None:
        super().__init__()
        self.network, self.layout, self.skipper = network, layout, skipper

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(inputs)


def rebuild(model: nn.Module, layout: str, tensors: dict[str, Tensor]) -> SkippingNetwork:
    """The stored network: gates around the dense `model` as in `layout` (JSON), and its tensors.

    Raises:
        ValueError: `layout` is none, or `tensors` do not fit.
    """
    read = Layout.model_validate_json(layout)
    skipper = Skipper()
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        install(model, read, skipper, device)
        network = SkippingNetwork(model, read, skipper)
        network.load_state_dict(tensors)
    except (AttributeError, RuntimeError) as e:
        raise ValueError(f"the stored tensors do not fit this network: {e}") from None
    return network


class SkippingCost:
    """Multiply-accumulates of each image under the gates, heads included, as a fraction of the dense network's.

    A convolution in blocks costs its open blocks (the layer behind it reads zeros and saves nothing).

    Args:
        structure: of the dense network.
        layout: where the gates sit.
        heads: as `install` returned them.
    """

    def __init__(self, structure: Structure, layout: Layout, heads: Iterable[GateHead]) -> None:
        branch_keys = {b.end: f"branch {b.end}" for b in layout.branches}
        key_of_unit = {b.unit: branch_keys[b.end] for b in structure.branches if b.end in branch_keys}
        block_keys = {p: f"channels {g.producers[0]}" for g in layout.channels for p in g.producers}
        self._terms: dict[tuple[str, ...], float] = {}
        self._shares: dict[str, Tensor] = {}  # (blocks,) of each gate, in the channels of its layer

        def add(keys: Iterable[str], macs: float) -> None:
            term = tuple(sorted(set(keys)))
            self._terms[term] = self._terms.get(term, 0.0) + macs / structure.macs

        def of(branches: Iterable[int]) -> list[str]:
            return [key_of_unit[u] for u in branches if u in key_of_unit]

        def around(name: str) -> list[str]:
            return of(structure.layers[name].branches)

        for name, layer in structure.layers.items():
            add([*around(name), *([block_keys[name]] if name in block_keys else [])], layer.macs)
        for product in structure.products:
            add(of(product.branches), product.macs)
        sites = [b.first for b in layout.branches] + [g.producers[0] for g in layout.channels]
        ends = [f"branch {b.end}" for b in layout.branches] + [None] * len(layout.channels)
        for name, own, head in zip(sites, ends, heads, strict=True):
            macs = head.first.weight.numel() + head.last.weight.numel()
            add([key for key in around(name) if key != own], macs)
            channels = len(structure.layers[name].out_units)
            widths = [high - low for low, high in block_bounds(channels, len(head.units))]  # a branch has one block
            self._shares[own or block_keys[name]] = torch.tensor(widths, device=head.units.device) / channels

    def __call__(self, gates: dict[str, Tensor]) -> Tensor:
        """(B,) from the (B, blocks) gates of every key."""
        opened = {key: (gate.detach().float() * self._shares[key]).sum(1) for key, gate in gates.items()}
        total: Tensor | None = None
        for keys, share in self._terms.items():
            term = torch.full_like(next(iter(opened.values())), share)
            for key in keys:
                term = term * opened[key]
            total = term if total is None else total + term
        assert total is not None
        return total

    def floor(self) -> float:
        """With every gate closed."""
        return self._terms.get((), 0.0)
