"""Gate heads: what they look at, and their decision as one step of autograd.

A step of the search is to cost hardly more than a dense one. The matrices of a head are so small that what it costs is the
number of operations: composed of PyTorch's own a head takes about forty forward and as many backward.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from methods.gate_gradients import GradientScale


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

    def pooled(self, x: Tensor) -> Tensor:
        """(B, C), the mean over positions, without a gradient."""
        x = x.detach()
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

    @property
    def weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.first.weight, self.first.bias, self.last.weight, self.last.bias

    def decide(
        self, pooled: Tensor, gates: Tensor, shift: Tensor, needed: Tensor, scale: GradientScale
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The head's word on its units.

        Args:
            pooled: (B, C), its layer's input.
            gates: (..., U) of all units.
            shift: (), the threshold on the logits.
            needed: what opens a unit: (units,), a vote above that; or (B, units), for each image, a logit above that.
            scale: of the gradients of the gates.

        Returns:
            `gates` with those of the head's units replaced, 1 where open and 0 where closed, with the gradient of the votes
            (or of each image's p); (units,) votes, the mean of p over the batch; (B, units) logits, less the shift and
            without a gradient; and what is open, bool, of the shape of `needed`.
        """
        with without_autocast(pooled.device.type):
            return _Decision.apply(gates, self.descriptor(pooled), *self.weights, self, shift, needed, scale)  # type: ignore[no-any-return]

    def votes(self, pooled: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Votes and logits as of `decide`, where the gates are known without."""
        with without_autocast(pooled.device.type):
            return _Votes.apply(self.descriptor(pooled), *self.weights, self, shift)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Word:
    """What a head said to a batch, and how it came to it."""

    descriptor: Tensor  # (B, features)
    hidden: Tensor  # (B, hidden)
    logits: Tensor  # (B, units), less the shift
    p: Tensor  # (B, units)

    @classmethod
    def of(cls, head: GateHead, descriptor: Tensor, weights: Sequence[Tensor], shift: Tensor) -> _Word:
        first_weight, first_bias, last_weight, last_bias = weights
        hidden = torch.addmm(first_bias, descriptor, first_weight.t()).relu_()
        logits = torch.addmm(last_bias, hidden, last_weight.t(), alpha=head.hidden_scale).sub_(shift)
        return cls(descriptor, hidden, logits, torch.sigmoid(logits))

    def gradients(self, of_p: Tensor, head: GateHead, last_weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of the head's four weights; `of_p` (units,) or (B, units), of each image's p."""
        with without_autocast(of_p.device.type):
            of_logits = (self.p - self.p * self.p).mul_(of_p)
            of_last = of_logits.t().mm(self.hidden).mul_(head.hidden_scale)
            of_hidden = of_logits.mm(last_weight).mul_(head.hidden_scale).mul_(self.hidden > 0.0)
            return of_hidden.t().mm(self.descriptor), of_hidden.sum(0), of_last, of_logits.sum(0)


class _Decision(torch.autograd.Function):
    """`GateHead.forward`, sigmoid, mean, straight-through estimator and scaled gradient, derived by hand.

    The same as PyTorch's own operations give, which the tests compare it with.
    """

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, descriptor: Tensor, first_weight: Tensor, first_bias: Tensor, last_weight: Tensor,
        last_bias: Tensor, head: GateHead, shift: Tensor, needed: Tensor, scale: GradientScale,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        word = _Word.of(head, descriptor, (first_weight, first_bias, last_weight, last_bias), shift)
        votes = word.p.mean(0)
        per_image = needed.ndim == 2
        opened = (word.logits if per_image else votes) > needed
        ctx.save_for_backward(last_weight)
        ctx.word, ctx.head, ctx.scale, ctx.per_image = word, head, scale, per_image
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(word.logits, opened)
        return gates.index_copy(-1, head.units, opened.to(gates.dtype)), votes, word.logits, opened

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, of_gates: Tensor | None, of_votes: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        images, units = len(ctx.word.p), ctx.head.units
        before = of_p = None
        if of_gates is not None:
            before = of_gates.index_fill(-1, units, 0.0)
            of_p = ctx.scale.scaled(of_gates.index_select(-1, units), units)
            of_p = of_p if ctx.per_image else of_p / images
        if of_votes is not None:
            of_p = of_votes / images if of_p is None else of_p + of_votes / images
        of_weights = (None,) * 4 if of_p is None else ctx.word.gradients(of_p, ctx.head, *ctx.saved_tensors)
        return before, None, *of_weights, None, None, None, None


class _Votes(torch.autograd.Function):
    """The votes of `_Decision` alone."""

    @staticmethod
    def forward(
        ctx: Any, descriptor: Tensor, first_weight: Tensor, first_bias: Tensor, last_weight: Tensor, last_bias: Tensor,
        head: GateHead, shift: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        word = _Word.of(head, descriptor, (first_weight, first_bias, last_weight, last_bias), shift)
        ctx.save_for_backward(last_weight)
        ctx.word, ctx.head = word, head
        ctx.mark_non_differentiable(word.logits)
        return word.p.mean(0), word.logits

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, of_votes: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.word.gradients(of_votes / len(ctx.word.p), ctx.head, *ctx.saved_tensors), None, None


class OpenGates:
    """Gates that are held open, and the heads that nevertheless learn from their gradients.

    The gates stand before the network runs, the heads speak when it has run, and learn when its backward pass has come back
    to the gates: with the gradients that `_Decision` gives.
    """

    def __init__(self, heads: Iterable[GateHead]) -> None:
        self._heads = list(heads)
        self._words: dict[GateHead, _Word] = {}

    def gates(self, opened: Tensor, scale: GradientScale) -> Tensor:
        """`opened` (..., U) with the heads behind it."""
        weights = [weight for head in self._heads for weight in head.weights]
        return _Opened.apply(opened, self._heads, self._words, scale, *weights)  # type: ignore[no-any-return]

    @torch.no_grad()
    def listen(self, head: GateHead, pooled: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """(units,) votes and (B, units) logits less the shift, both without a gradient."""
        with without_autocast(pooled.device.type):
            word = self._words[head] = _Word.of(head, head.descriptor(pooled), head.weights, shift)
            return word.p.mean(0), word.logits


class _Opened(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, opened: Tensor, heads: list[GateHead], words: dict[GateHead, _Word], scale: GradientScale,
        *weights: Tensor,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(*weights)
        ctx.heads, ctx.words, ctx.scale = heads, words, scale
        return opened.clone()

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, of_gates: Tensor) -> tuple[Tensor | None, ...]:
        of_weights: list[Tensor | None] = [None] * (4 * len(ctx.heads))
        spoke = [(i, head) for i, head in enumerate(ctx.heads) if head in ctx.words]
        if spoke:
            units = torch.cat([head.units for _, head in spoke])
            of_units = ctx.scale.scaled(of_gates.index_select(-1, units), units)
            if of_gates.ndim == 1:
                of_units = of_units / len(ctx.words[spoke[0][1]].p)
            of_heads = of_units.split([len(head.units) for _, head in spoke], dim=-1)
            for (i, head), of_p in zip(spoke, of_heads, strict=True):
                last_weight = ctx.saved_tensors[4 * i + 2]
                of_weights[4 * i : 4 * i + 4] = ctx.words[head].gradients(of_p, head, last_weight)
        return None, None, None, None, *of_weights


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
