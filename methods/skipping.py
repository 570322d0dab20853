"""Work that is really skipped at inference, image by image, under gates that look at the input.

A residual branch: the images that need it are gathered at its first layer, the branch runs on them alone, and its result
is scattered back at its last layer. Channels: a convolution is cut into blocks of output channels, and each block runs
on the images that need it. In training mode (and in eval mode with `Skipper.skip` off) everything runs and closed parts
are multiplied by 0, which gives the same result.

Masking single channels per image would skip nothing: images agree on all channels of a layer too rarely to be batched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from methods.gated_modules import GateHead, GradientScale
from methods.gates import binarize, logistic_noise, straight_through
from methods.macs import CONVOLUTIONS, layer_macs
from methods.structure import BATCH_NORMS, Structure


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


class Skipper:
    """What the gates of the running forward pass decided; shared by all wrappers of a network.

    Attributes:
        skip: in eval mode, skip what is closed rather than multiply it by 0.
        gates: (B, blocks) 0/1 by gate (a branch has one block), B being the images that came that far.
        rows: for each branch that is being executed the images that need it; None: all do.
    """

    def __init__(self) -> None:
        self.skip = True
        self.shift = 0.0  # the global threshold on the logits
        self.noise = 0.0
        self.hold_open = False
        self.generator: torch.Generator | None = None
        self.gradients: GradientScale | None = None
        self.forced: Callable[[str, Tensor], Tensor] | None = None  # logits to gates, for checks
        self.gates: dict[str, Tensor] = {}
        self.rows: dict[str, tuple[Tensor, int] | None] = {}

    def decide(self, key: str, head: GateHead, x: Tensor, *, training: bool) -> Tensor:
        """(B, blocks) gates from the input `x` of the first gated layer."""
        logits = head(x) - self.shift
        if self.forced is not None:
            gates = self.forced(key, logits)
        elif not training:
            gates = (logits > 0).to(logits.dtype)
        else:
            soft = torch.sigmoid(logits)
            if self.gradients is not None:
                soft = self.gradients.apply(soft, head.units)
            noise = None
            if self.noise > 0.0 and self.generator is not None and not self.hold_open:
                noise = logistic_noise(tuple(logits.shape), self.noise, self.generator)
            hard = torch.ones_like(soft) if self.hold_open else binarize(logits.detach(), noise)
            gates = straight_through(hard, soft)
        self.gates[key] = gates
        return gates


class _Wrapper(nn.Module):
    def __init__(self, inner: nn.Module, skipper: Skipper, key: str) -> None:
        super().__init__()
        self.inner, self.key = inner, key
        self._skipper = (skipper,)  # a tuple: it is no submodule

    def skips(self) -> bool:
        return self._skipper[0].skip and not self.training


class BranchStart(_Wrapper):
    """The first layer of a gated branch: decides, and hands on the images that need the branch."""

    def __init__(self, inner: nn.Module, skipper: Skipper, key: str, head: GateHead) -> None:
        super().__init__(inner, skipper, key)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        skipper = self._skipper[0]
        gates = skipper.decide(self.key, self.head, x, training=self.training)
        skipper.rows[self.key] = None
        if self.skips():
            rows = gates[:, 0].nonzero().flatten()
            if len(rows) < len(x):
                skipper.rows[self.key] = (rows, len(x))
                x = x.index_select(0, rows)
        return self.inner(x)


class BranchEnd(_Wrapper):
    """The last layer of a gated branch: its output for the images that needed it, 0 for the others."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        skipper = self._skipper[0]
        if not self.skips():
            gate = skipper.gates[self.key].to(y.dtype)
            return y * gate.view(-1, *(1 for _ in y.shape[1:]))
        found = skipper.rows.pop(self.key)
        if found is None:
            return y
        rows, count = found
        return _zeros(y, count, y.shape[1]).index_copy_(0, rows, y)


class BlockConv(_Wrapper):
    """A convolution whose blocks of output channels run for those images alone that need them."""

    def __init__(self, inner: nn.Module, skipper: Skipper, key: str, blocks: int, head: GateHead | None) -> None:
        super().__init__(inner, skipper, key)
        self.head = head
        self.bounds = block_bounds(inner.out_channels, blocks)  # type: ignore[arg-type]
        self.executed_macs = 0  # of the last call, where the inner module was not called as a whole

    def forward(self, x: Tensor) -> Tensor:
        skipper = self._skipper[0]
        if self.head is not None:
            skipper.decide(self.key, self.head, x, training=self.training)
        gates = skipper.gates[self.key]
        self.executed_macs = 0
        if not self.skips():
            return _times_blocks(self.inner(x), gates, self.bounds)
        return self._by_block(x, gates)

    def _by_block(self, x: Tensor, gates: Tensor) -> Tensor:
        conv: Any = self.inner
        result: Tensor | None = None
        for k, (low, high) in enumerate(self.bounds):
            rows = gates[:, k].nonzero().flatten()
            if not len(rows) and not (result is None and k == len(self.bounds) - 1):
                continue  # the last one runs on no image if nobody ran: it knows the shape
            chosen = x if len(rows) == len(x) else x.index_select(0, rows)
            bias = None if conv.bias is None else conv.bias[low:high]
            if conv.groups > 1:  # depthwise: a block of outputs reads the same block of inputs
                chosen = chosen[:, low:high]
            y = _convolve(conv, chosen, conv.weight[low:high], bias, high - low if conv.groups > 1 else 1)
            self.executed_macs += layer_macs(conv, y)
            if result is None:
                result = _zeros(y, len(x), conv.out_channels)
            if len(rows) == len(x):
                result[:, low:high] = y
            else:
                result[:, low:high].index_copy_(0, rows, y)
        assert result is not None
        return result


class BlockNorm(_Wrapper):
    """A norm of gated channels: closed ones are 0 behind it."""

    def __init__(self, inner: nn.Module, skipper: Skipper, key: str, blocks: int) -> None:
        super().__init__(inner, skipper, key)
        self.bounds = block_bounds(inner.num_features, blocks)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return _times_blocks(self.inner(x), self._skipper[0].gates[self.key], self.bounds)


def block_bounds(channels: int, blocks: int) -> list[tuple[int, int]]:
    """`channels` cut into `blocks` stretches of about equal width, as (start, end)."""
    edges = [round(channels * i / blocks) for i in range(blocks + 1)]
    return list(pairwise(edges))


def _times_blocks(y: Tensor, gates: Tensor, bounds: list[tuple[int, int]]) -> Tensor:
    widths = torch.tensor([high - low for low, high in bounds], device=y.device)
    mask = gates.to(y.dtype).repeat_interleave(widths, dim=1)
    return y * mask.view(*mask.shape, *(1 for _ in y.shape[2:]))


def _zeros(like: Tensor, count: int, channels: int) -> Tensor:
    format_ = torch.contiguous_format
    if like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last):
        format_ = torch.channels_last
    shape = (count, channels, *like.shape[2:])
    return (
        torch.zeros_like(like.new_empty(shape), memory_format=format_)
        if like.ndim != 4
        else like.new_empty(shape).contiguous(memory_format=format_).zero_()
    )


def _convolve(conv: Any, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    own = conv.groups
    conv.groups = groups
    try:
        return conv._conv_forward(x, weight, bias)
    finally:
        conv.groups = own


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
    in_streams = {u for b in structure.branches for u in structure.layers[b.end].out_units.tolist()}
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


def _wrap(model: nn.Module, name: str, wrapper: type[_Wrapper], skipper: Skipper, key: str, *arguments: Any) -> None:
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

        def add(keys: Iterable[str], macs: float) -> None:
            term = tuple(sorted(set(keys)))
            self._terms[term] = self._terms.get(term, 0.0) + macs / structure.macs

        def around(name: str) -> list[str]:
            return [key_of_unit[u] for u in structure.layers[name].branches if u in key_of_unit]

        for name, layer in structure.layers.items():
            add([*around(name), *([block_keys[name]] if name in block_keys else [])], layer.macs)
        sites = [b.first for b in layout.branches] + [g.producers[0] for g in layout.channels]
        ends = [f"branch {b.end}" for b in layout.branches] + [None] * len(layout.channels)
        for name, own, head in zip(sites, ends, heads, strict=True):
            macs = head.first.weight.numel() + head.last.weight.numel()
            add([key for key in around(name) if key != own], macs)

    def __call__(self, gates: dict[str, Tensor]) -> Tensor:
        """(B,) from the (B, blocks) gates of every key."""
        opened = {key: gate.detach().float().mean(1) for key, gate in gates.items()}
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
