"""The modules that carry gates during the search: gate heads, and wrappers around a network's own layers.

Channels are closed where it costs nothing: a mask on a batch norm's scale and shift, or on the weights of a layer
without one (`majority`). With one mask for each image (`per_sample`) the output itself is multiplied.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from methods import ranks
from methods.gates import binarize, logistic_noise, majority, straight_through
from methods.masking import along, masked_layer_norm
from methods.units import BATCH_NORMS, channel_dim


class GateState:
    """What the gates of one forward pass decided; shared by all wrappers of a network.

    Attributes:
        gates: (U + 1,) or, per sample, (B, U + 1): 1 open, 0 closed, straight-through; the last one is always open.
    """

    def __init__(
        self, units: int, device: torch.device, scale: Tensor, generator: torch.Generator, *, per_sample: bool
    ) -> None:
        self.units, self.device, self.generator = units, device, generator
        self.per_sample = per_sample
        self.noise = 0.0
        self.memory = 0.0  # how much of the moving average a batch executes, see `gates.majority`
        self.standing = torch.zeros(units, device=device)  # the moving average, after the shift
        self.hold_open = True  # ignore what the heads say, but let them learn
        self.visit_closed = False  # execute closed branches, so that their gates see a gradient
        self.searching = False
        self.closed: set[int] = set()  # branch units that the batch skips
        self.skippable: set[int] = set()  # branch units whose modules may be left out; found by trying
        self.batch = 0
        self.input_shape: tuple[int, ...] = ()  # of one image
        self.end_shapes: dict[tuple[int, tuple[int, ...]], tuple[int, ...]] = {}  # (branch unit, input) -> its output's
        self.gradients = GradientScale(scale)
        self._spoken: list[tuple[Tensor, Tensor, Tensor]] = []  # this forward pass: units, their logits, their votes
        self._tally = torch.zeros(3, units, device=device)  # since the last step: sums of votes, of logits, and images
        self._noise: Tensor | None = None
        self.shift = torch.zeros((), device=device)

    def begin(self, batch: int, *, searching: bool, shift: Tensor, consensus: Tensor) -> None:
        """Start a forward pass. The gates are the consensus; while `searching` until the heads have spoken."""
        self._count()
        self.searching, self.shift, self.batch = searching, shift, batch
        self.closed = set()
        gates = torch.cat([consensus.float(), consensus.new_ones(1, dtype=torch.float32)])
        self.gates = gates.expand(batch, -1) if searching and self.per_sample else gates
        if not searching:
            self._close(range(self.units), consensus)
            return
        # For all units at once, whichever heads will speak: so the processes of a distributed training, which may skip
        # different layers, keep drawing the same noise.
        self._noise = None
        if self.noise > 0.0 and not self.hold_open:
            shape = (batch, self.units) if self.per_sample else (self.units,)
            self._noise = logistic_noise(shape, self.noise, self.generator)

    def decide(self, units: Tensor, branches: tuple[int, ...], logits: Tensor) -> None:
        """A head's word on its `units`: (B, len(units)) logits. The last `len(branches)` of them are branches."""
        logits = logits - self.shift
        p = torch.sigmoid(logits)
        vote = p.mean(0)
        self._spoken.append((units, logits, vote))
        noise = None if self._noise is None else self._noise.index_select(-1, units)
        if self.hold_open:
            soft = p if self.per_sample else vote
            gates = straight_through(torch.ones_like(soft), soft)
        elif self.per_sample:
            gates = binarize(logits, noise)
        else:
            gates = majority(vote, noise, standing=self.standing[units], memory=self.memory)
        gates = self.gradients.apply(gates, units)
        self.gates = self.gates.index_copy(-1, units, gates)
        if branches and not self.visit_closed and not self.hold_open:
            opened = gates.detach() if gates.ndim == 1 else gates.detach().amax(0)
            self._close(branches, opened[-len(branches) :])

    def _close(self, units: Iterable[int], opened: Tensor) -> None:
        closed = {unit for unit, is_open in zip(units, opened.tolist(), strict=True) if not is_open} & self.skippable
        # A branch is skipped once it is known what shape it would have given; until then it runs, masked.
        self.closed |= {unit for unit in closed if (unit, self.input_shape) in self.end_shapes}

    def votes(self, default: Tensor) -> Tensor:
        """(U,) mean over the batch of each unit's p; `default` where no head spoke. Differentiable."""
        if not self._spoken:
            return default.clone()
        units, _, votes = zip(*self._spoken, strict=True)
        return default.index_copy(0, torch.cat(units), torch.cat(votes))

    def tied_to(self, output: Tensor) -> Tensor:
        """`output`, depending (with weight 0) on everything the heads said, even on layers that were then skipped.

        `DistributedDataParallel` finds the parameters in use from the output alone, and the penalty uses all heads.
        """
        if not self._spoken or not torch.is_grad_enabled():
            return output
        return output + 0.0 * torch.cat([vote for _, _, vote in self._spoken]).sum().to(output.dtype)

    @torch.no_grad()
    def _count(self) -> None:
        """Put the votes of the last forward pass on the tally (a step may consist of several)."""
        if self._spoken and self._spoken[0][2].requires_grad:
            units, logits, votes = (torch.cat(parts, dim=-1) for parts in zip(*self._spoken, strict=True))
            images = float(len(logits))
            self._tally.index_add_(
                1, units, torch.stack([votes * images, logits.sum(0), torch.full_like(votes, images)])
            )
        self._spoken = []

    def take(self, votes: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Once a step, after backward: the means over all images since the last step, of all processes; then forget them.

        Where `torch.distributed` is at work, votes and gate gradients are added up over its processes, so that all of
        them take the same decisions.

        Args:
            votes, logits: (U,), what to return for units on which no head spoke.

        Returns:
            (U,) mean p and (U,) mean logit, the latter before the shift.
        """
        self._count()
        tally, gradients = self._tally, self.gradients.sums
        if ranks.several():
            together = torch.cat([tally.flatten(), gradients])
            torch.distributed.all_reduce(together)
            tally = together[: tally.numel()].view_as(tally)
            gradients = together[tally.numel() :] / torch.distributed.get_world_size()
        self.gradients.update(gradients)
        spoke = tally[2] > 0
        images = tally[2].clamp_min(1.0)
        means = torch.where(spoke, tally[0] / images, votes), torch.where(spoke, tally[1] / images + self.shift, logits)
        self._tally.zero_()
        return means


class GradientScale:
    """Brings the gradients of all gates to one scale, so that no network, loss or batch size needs its own tuning.

    Each unit's gradient is weighted (see `gating_setup.price_weights`), divided by the root mean square over all units (a
    moving average), and multiplied by `gain`.

    Attributes:
        sums: (U,) weighted gradients of the gates, added up since the last step.
        rms: 0 until something was seen.
        importance: (U,) mean square of each gate's own gradient, not weighted (a moving average over about 100 steps).
    """

    IMPORTANCE_MOMENTUM = 0.99

    def __init__(self, weights: Tensor, momentum: float = 0.98) -> None:
        self.weights, self.momentum = weights, momentum
        self.gain = 1.0
        self.rms = 0.0
        self.sums = torch.zeros_like(weights)
        self.importance = torch.zeros_like(weights)

    def apply(self, gates: Tensor, units: Tensor) -> Tensor:
        """`gates` (units,) or (B, units) forward; scaled gradient backward."""
        if gates.requires_grad:
            gates.register_hook(lambda gradient: self._scaled(gradient, units))
        return gates

    def _scaled(self, gradient: Tensor, units: Tensor) -> Tensor:
        gradient = gradient * self.weights[units]
        self.sums.index_add_(0, units, gradient.detach().sum(0) if gradient.ndim == 2 else gradient.detach())
        if self.rms == 0.0:
            return torch.zeros_like(gradient)
        return gradient * (self.gain / self.rms)

    def update(self, sums: Tensor) -> None:
        """Once a step, after backward: take in what was seen.

        Args:
            sums: (U,), this process's `sums`, or their mean over all processes.
        """
        squares = sums.square()
        seen = squares[squares > 0]
        if len(seen):
            now = float(seen.mean().sqrt())
            self.rms = now if self.rms == 0.0 else self.momentum * self.rms + (1.0 - self.momentum) * now
            own = (sums / self.weights).square()
            fresh = self.importance == 0.0
            self.importance = torch.where(fresh, own, torch.lerp(own, self.importance, self.IMPORTANCE_MOMENTUM))
        self.sums.zero_()


def with_gradient_gain(value: Tensor, gain: float) -> Tensor:
    """`value` forward, `gain` times its gradient backward."""
    scaled = value * gain
    return value.detach() + (scaled - scaled.detach())


class GateHead(nn.Module):
    """Global average pool, Linear, ReLU, Linear: (B, C, ...) features to (B, units) logits.

    The descriptor is normalised and the hidden layer scaled to about unit length, so that one step moves the logits of a
    wide layer no further than those of a narrow one (without it the gates of short searches ran away).
    The features are detached (the gates learn from them, they do not learn for the gates) and pooled over every second
    row and column, which the mean hardly notices and memory traffic does. A feature that was removed counts as 0, which
    it was as long as its gate was closed: removing it changes no logit.
    """

    def __init__(self, features: int, units: Tensor, hidden: int, channel_dim: int) -> None:
        super().__init__()
        self.register_buffer("units", units, persistent=False)
        self.register_buffer("features_left", None, persistent=False)  # indices of the features; None: all of them
        self.channel_dim = channel_dim
        self.first = nn.Linear(features, hidden)
        self.last = nn.Linear(hidden, len(units))

    def forward(self, x: Tensor) -> Tensor:
        x = x.detach()
        if x.ndim == 4:
            x = x[:, :, ::2, ::2] if self.channel_dim == 1 else x[:, ::2, ::2]
        if x.ndim > 2:
            x = x.mean([d for d in range(1, x.ndim) if d != self.channel_dim % x.ndim])
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            if self.features_left is not None:
                x = x.new_zeros(len(x), self.first.in_features).index_copy_(1, self.features_left, x)
            descriptor = F.layer_norm(x, x.shape[-1:])
            return self.last(F.relu(self.first(descriptor)) * self.first.out_features**-0.5)


class Gated(nn.Module):
    """A network's own layer, under its gates. Optionally carries the head that decides on units from its input."""

    def __init__(self, inner: nn.Module, state: GateState, channel_units: Tensor | None) -> None:
        super().__init__()
        self.inner = inner
        self.head: GateHead | None = None
        self.decided_branches: tuple[int, ...] = ()  # branch units the head decides on
        self.branches: tuple[int, ...] = ()  # branch units this layer lies in
        self.ends: int | None = None  # branch unit that ends here
        self.channel_dim = channel_dim(inner)
        self._state = (state,)  # a tuple: the state is no submodule
        self.register_buffer("channel_units", channel_units, persistent=False)
        self.register_buffer("input_units", None, persistent=False)  # where closed channels do not arrive as zeros

    def forward(self, x: Tensor) -> Tensor:
        state = self._state[0]
        if self.input_units is not None and not self._skipped(state):
            x = x * along(state.gates.index_select(-1, self.input_units), x, self.channel_dim)
        if self.head is not None and state.searching and not self._skipped(state):
            state.decide(self.head.units, self.decided_branches, self.head(x))
        if self._skipped(state):  # the branch adds nothing: do nothing
            if self.ends is not None:
                rows, *shape = state.end_shapes[self.ends, state.input_shape]
                return x.new_zeros(rows * state.batch, *shape)
            return x.new_zeros((1,) * x.ndim)  # not x: what follows may work in place
        y = self._masked(x, self._mask(state))
        if self.ends is not None and len(y) % state.batch == 0:
            state.end_shapes[self.ends, state.input_shape] = (len(y) // state.batch, *y.shape[1:])
        return y

    def _masked(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            return self.inner(x)
        if isinstance(self.inner, nn.LayerNorm):
            return masked_layer_norm(self.inner, x, mask, self.channel_dim)
        if mask.ndim == 2:
            y = self.inner(x)
            return y * along(mask, y, self.channel_dim)
        return masked_call(self.inner, x, mask)

    def _skipped(self, state: GateState) -> bool:
        return any(branch in state.closed for branch in self.branches)

    def _mask(self, state: GateState) -> Tensor | None:
        mask = None if self.channel_units is None else state.gates.index_select(-1, self.channel_units)
        if self.ends is not None:
            gate = state.gates[..., self.ends : self.ends + 1]
            mask = gate if mask is None else mask * gate
        return mask


def masked_call(layer: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """`layer(x)` with output channel c multiplied by mask[c]: folded into scale and shift, or into the weights.

    Args:
        layer: batch norm, convolution or linear layer.
        mask: (C,) or (1,).
    """
    if isinstance(layer, BATCH_NORMS):
        return _masked_norm(layer, x, mask)
    tensors = {"weight": layer.weight * mask.view(-1, *(1 for _ in range(layer.weight.ndim - 1)))}  # type: ignore[union-attr, operator]
    if layer.bias is not None:
        tensors["bias"] = layer.bias * mask  # type: ignore[operator]
    return functional_call(layer, tensors, (x,))  # a call of the module: its hooks, a MAC counter's for example, see it


def _masked_norm(norm: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    use_batch = norm.training or norm.running_mean is None
    momentum = norm.momentum
    if norm.training and norm.track_running_stats and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)  # type: ignore[operator]
        if momentum is None:
            momentum = 1.0 / float(norm.num_batches_tracked)  # type: ignore[arg-type]
    update = not norm.training or norm.track_running_stats
    mask = mask.expand(norm.num_features)  # type: ignore[arg-type]
    return F.batch_norm(
        x,
        norm.running_mean if update else None,  # type: ignore[arg-type]
        norm.running_var if update else None,  # type: ignore[arg-type]
        mask if norm.weight is None else norm.weight * mask,  # type: ignore[operator]
        None if norm.bias is None else norm.bias * mask,  # type: ignore[operator]
        bool(use_batch),
        momentum,  # type: ignore[arg-type]
        norm.eps,  # type: ignore[arg-type]
    )
