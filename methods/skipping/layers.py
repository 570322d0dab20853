"""The layers around a network's own that skip work: branches gathered and scattered, convolutions cut into blocks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from greenprune.methods.gating.gradients import GradientScale
from greenprune.methods.gating.heads import GateHead
from greenprune.methods.gating.mathematics import binarize, logistic_noise, straight_through
from greenprune.methods.ranks import together
from greenprune.methods.structure.macs import layer_macs
from torch import Tensor, nn


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
                everywhere = (len(logits) * together.size(), *logits.shape[1:])  # so all processes draw the same
                noise = together.share(logistic_noise(everywhere, self.noise, self.generator))
            hard = torch.ones_like(soft) if self.hold_open else binarize(logits.detach(), noise)
            gates = straight_through(hard, soft)
        self.gates[key] = gates
        return gates


class Wrapper(nn.Module):
    def __init__(self, inner: nn.Module, skipper: Skipper, key: str) -> None:
        super().__init__()
        self.inner, self.key = inner, key
        self._skipper = (skipper,)  # a tuple: it is no submodule

    def skips(self) -> bool:
        return self._skipper[0].skip and not self.training


class BranchStart(Wrapper):
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


class BranchEnd(Wrapper):
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


class BlockConv(Wrapper):
    """A convolution whose blocks of output channels run for those images alone that need them."""

    executed_macs = 0  # of the last call, where the inner module was not called as a whole

    def __init__(self, inner: nn.Module, skipper: Skipper, key: str, blocks: int, head: GateHead | None) -> None:
        super().__init__(inner, skipper, key)
        self.head = head
        self.bounds = block_bounds(inner.out_channels, blocks)  # type: ignore[arg-type]

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
            self.executed_macs += layer_macs(conv, chosen, y)
            if result is None:
                result = _zeros(y, len(x), conv.out_channels)
            if len(rows) == len(x):
                result[:, low:high] = y
            else:
                result[:, low:high].index_copy_(0, rows, y)
        assert result is not None
        return result


class BlockNorm(Wrapper):
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
