"""Gate heads: what they look at, what they say, and how they learn from it.

A step of the search is to cost hardly more than a dense one. The matrices of a head are so small that what it costs is the
number of operations, dozens forward and as many backward if they are left to autograd; and each of them takes several
times as long between two convolutions, which sweep the caches, as in a row with its like.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from greenprune.methods.gating.gradients import GradientScale
from greenprune.methods.ranks import together
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class GateHead(nn.Module):
    """Global average pool, Linear, ReLU, Linear: (B, C, ...) features to (B, units) logits.

    The descriptor is normalised and the hidden layer scaled to about unit length, so that one step moves the logits of a
    wide layer no further than those of a narrow one (without it the gates of short searches ran away).
    The features are detached (the gates learn from them, they do not learn for the gates) and pooled over a quarter of the
    pixels, which the mean hardly notices and memory traffic does. A feature that was removed counts as 0, which it was as
    long as its gate was closed: removing it changes no logit.
    """

    def __init__(self, features: int, units: Tensor, hidden: int, channel_dim: int) -> None:
        super().__init__()
        self.register_buffer("units", units, persistent=False)
        self.register_buffer("features_left", None, persistent=False)  # indices of the features; None: all of them
        self.channel_dim = channel_dim
        self.first = nn.Linear(features, hidden)
        self.last = nn.Linear(hidden, len(units))
        self.hidden_scale = hidden**-0.5

    def forward(self, x: Tensor) -> Tensor:
        with without_autocast(x.device.type):
            descriptor = self.descriptor(self.pooled(x))
            return self.last(F.relu(self.first(descriptor)) * self.hidden_scale)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> GateHead:
        """Whatever precision the network is brought to, its gates are decided in float32."""
        return super()._apply(lambda t: fn(t).float() if t.is_floating_point() else fn(t), recurse)

    def pooled(self, x: Tensor) -> Tensor:
        """(B, C), the mean over positions, without a gradient."""
        x = x.detach()
        if x.ndim == 1:
            return x[None]
        if x.ndim == 4:
            x = _quarter(x, self.channel_dim)
        return x if x.ndim == 2 else x.mean([d for d in range(1, x.ndim) if d != self.channel_dim % x.ndim])

    def descriptor(self, pooled: Tensor) -> Tensor:
        """(B, features) float32: what the head looks at."""
        x = pooled.float()
        if self.features_left is not None:
            x = x.new_zeros(len(x), self.first.in_features).index_copy_(1, self.features_left, x)
        return F.layer_norm(x, x.shape[-1:])

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.first.weight.numel() + self.last.weight.numel()


@dataclass(frozen=True)
class Word:
    """What a head said to a batch, and how it came to it. Nothing here has a gradient."""

    descriptor: Tensor  # (B, features)
    hidden: Tensor  # (B, hidden)
    logits: Tensor  # (B, units), less the shift
    p: Tensor  # (B, units)
    votes: Tensor  # (units,), the mean of p over the batch, of all processes of a distributed training

    @classmethod
    def of(cls, head: GateHead, pooled: Tensor, shift: Tensor) -> Word:
        """Like `GateHead.forward`. Call without gradients."""
        first, last = head.first, head.last
        descriptor = head.descriptor(pooled)
        # With out= products stay in float32 under autocast, without a context around each of them.
        hidden, logits = descriptor.new_empty(len(descriptor), len(first.bias)), descriptor.new_empty(0)
        torch.addmm(first.bias, descriptor, first.weight.t(), out=hidden).relu_()
        torch.addmm(last.bias, hidden, last.weight.t(), alpha=head.hidden_scale, out=logits).sub_(shift)
        p = torch.sigmoid(logits)
        return cls(descriptor, hidden, logits, p, p.mean(0))

    def gradients(self, of_p: Tensor, head: GateHead, last_weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of the head's weight, bias, weight and bias; `of_p` (units,) or (B, units), of each image's p."""
        of_logits = (self.p - self.p * self.p).mul_(of_p)
        of_hidden, of_first, of_last = (of_logits.new_empty(0) for _ in range(3))
        torch.mm(of_logits, last_weight, out=of_hidden).mul_(head.hidden_scale).mul_(self.hidden > 0.0)
        torch.mm(of_hidden.t(), self.descriptor, out=of_first)
        torch.mm(of_logits.t(), self.hidden, out=of_last).mul_(head.hidden_scale)
        return of_first, of_hidden.sum(0), of_last, of_logits.sum(0)


class Hearing:
    """What the heads say in one forward pass, and the one operation of autograd through which all of them learn.

    Gates and votes stand before the network runs, and are filled in as the heads speak. In the backward pass the heads come
    last, all at once, when the gradients of all gates and votes are there. These are, derived by hand, those of
    `GateHead.forward`, sigmoid, mean over the batch, straight-through estimator and `GradientScale`.

    Attributes:
        gates: (..., U), of which the gates of heads that spoke were replaced; their gradient is that of the votes, or of each
            image's p.
        votes: (U,), the mean of p over the batch.
    """

    def __init__(
        self, heads: Iterable[GateHead], gates: Tensor, votes: Tensor, scale: GradientScale, *, gates_teach: bool = True
    ) -> None:
        """`gates` and `votes` hold until a head has spoken; unless `gates_teach` heads learn from the votes alone."""
        heads, self._words = list(heads), dict[GateHead, Word]()
        self.late: list[Tensor] = []  # leaves whose gradients count for those of the gates, see `GateState.current`
        weights = [w for head in heads for w in (head.first.weight, head.first.bias, head.last.weight, head.last.bias)]
        linked, self.votes = _Heard.apply(gates, votes, heads, self._words, scale, self.late, *weights)
        self.gates: Tensor = linked if gates_teach else gates

    @torch.no_grad()
    def listen(self, asked: Sequence[tuple[GateHead, Tensor]], shift: Tensor) -> list[Word]:
        """Take note of what heads say, each to (B, C) features; `shift` is the threshold on the logits."""
        words = [Word.of(head, pooled, shift) for head, pooled in asked]
        if together.several():
            votes = together.mean(torch.cat([word.votes for word in words])).split([len(word.votes) for word in words])
            words = [replace(word, votes=own) for word, own in zip(words, votes, strict=True)]
        for (head, _), word in zip(asked, words, strict=True):
            self._words[head] = word
            self.votes.detach().index_copy_(0, head.units, word.votes)
        return words

    @torch.no_grad()
    def decide(self, head: GateHead, word: Word, needed: Tensor) -> Tensor:
        """Set the gates of the head's units; bool, which are open.

        Args:
            needed: what opens a unit: (units,), a vote above that; or (B, units), for each image, a logit above that.
        """
        opened = (word.votes if needed.ndim == 1 else word.logits) > needed
        self.gates.detach().index_copy_(-1, head.units, opened.to(self.gates.dtype))
        return opened


class _Heard(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, votes: Tensor, heads: list[GateHead], words: dict[GateHead, Word], scale: GradientScale,
        late: list[Tensor], *weights: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        ctx.save_for_backward(*weights)
        ctx.heads, ctx.words, ctx.scale, ctx.late = heads, words, scale, late
        ctx.set_materialize_grads(False)
        return gates.clone(), votes.clone()

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, of_gates: Tensor | None, of_votes: Tensor | None) -> tuple[Tensor | None, ...]:
        of_weights: list[Tensor | None] = [None] * (4 * len(ctx.heads))
        for leaf in ctx.late:
            if leaf.grad is not None:
                of_gates = leaf.grad if of_gates is None else of_gates + leaf.grad
                leaf.grad = None
        spoke = [(i, head, ctx.words[head]) for i, head in enumerate(ctx.heads) if head in ctx.words]
        if spoke and not (of_gates is None and of_votes is None):
            of_gates, of_votes = _of_all_ranks(of_gates, of_votes)
            images = len(spoke[0][2].p)
            units = torch.cat([head.units for _, head, _ in spoke])
            of_p = None if of_votes is None else of_votes.index_select(0, units) / images
            if of_gates is not None:
                of_units = ctx.scale.scaled(of_gates.index_select(-1, units), units)
                of_units = of_units / images if of_gates.ndim == 1 else of_units
                of_p = of_units if of_p is None else of_units + of_p
            of_heads = of_p.split([len(head.units) for _, head, _ in spoke], dim=-1)  # type: ignore[union-attr]
            for (i, head, word), of_own in zip(spoke, of_heads, strict=True):
                of_weights[4 * i : 4 * i + 4] = word.gradients(of_own, head, ctx.saved_tensors[4 * i + 2])
        return None, None, None, None, None, None, *of_weights


def _of_all_ranks(of_gates: Tensor | None, of_votes: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of gates and votes that all processes share, their means; gates of single images are each one's own."""
    if not together.several():
        return of_gates, of_votes
    shared = [g for g in (of_gates, of_votes) if g is not None and g.ndim == 1]
    means = iter(together.mean(torch.cat(shared)).split([len(g) for g in shared]) if shared else ())
    of_gates = next(means) if of_gates is not None and of_gates.ndim == 1 else of_gates
    return of_gates, None if of_votes is None else next(means)


def by_example(pooled: Tensor, batch: int) -> Tensor:
    """(rows, C) to (B, C): the mean over the rows of each example, as a network may fold frames or patches into the batch.

    Where rows cannot be told apart (sequence first) each example is given the mean over all.
    """
    if len(pooled) == batch:
        return pooled
    if len(pooled) % batch == 0:
        return pooled.view(batch, -1, pooled.shape[-1]).mean(1)
    return pooled.mean(0, keepdim=True).expand(batch, -1)


def without_autocast(device_type: str) -> contextlib.AbstractContextManager[Any]:
    """Whatever precision the network runs in, its gates are decided in their own."""
    if torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()


def _quarter(x: Tensor, channel_dim: int) -> Tensor:
    """Every fourth row of an image; every fourth column where the channels of a pixel lie side by side in memory.

    So what is read is contiguous, and what is left are only two dimensions with one stride each.
    """
    row, column = (2, 3) if channel_dim == 1 else (1, 2)
    dim = row if channel_dim == 1 and x.is_contiguous() else column
    size = x.shape[dim]
    return x[(slice(None),) * dim + (slice(min(2, size // 2), None, 4),)]
