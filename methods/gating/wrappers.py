"""The wrappers around a network's own layers that carry gates during the search.

Channels are closed where it costs nothing: a mask on a batch norm's scale and shift, or on the weights of a layer
without one (`majority`). With one mask for each image (`per_sample`) the output itself is multiplied.
"""

from __future__ import annotations

import torch.nn.functional as F
from greenprune.methods.gating.heads import GateHead
from greenprune.methods.gating.state import GateState
from greenprune.methods.structure.macs import TRANSPOSED
from greenprune.methods.structure.masking import along, masked_layer_norm
from greenprune.methods.structure.units import BATCH_NORMS, channel_dim
from torch import Tensor, nn
from torch.func import functional_call


class Gated(nn.Module):
    """A network's own layer, under its gates. Optionally carries the head that decides on units from its input."""

    executed_macs = 0  # of the head in the last call, for `meter.MacMeter`

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
        self.executed_macs = 0
        if self.input_units is not None and not self._skipped(state):
            x = x * along(state.gates.index_select(-1, self.input_units), x, self.channel_dim)
        if self.head is not None and state.searching and not self._skipped(state, but=self.decided_branches):
            state.hear(self.head, self.decided_branches, x)
            self.executed_macs = self.head.macs * len(x)
        if self._skipped(state):  # the branch adds nothing: do nothing
            if self.ends is not None:
                return x.new_zeros(state.end_shape(self.ends))
            return x.new_zeros((1,) * x.ndim)  # not x: what follows may work in place
        y = self._masked(x, state)
        if self.ends is not None:
            state.note_end(self.ends, tuple(y.shape))
        return y

    def prepare(self) -> None:
        """Work out ahead what the gates do to this layer; they are known and do not change in this forward pass."""
        state = self._state[0]
        if not self._skipped(state):
            mask = self._mask(state)
            if mask is not None:
                folded = isinstance(self.inner, BATCH_NORMS) and mask.ndim == 1
                state.prepared[self] = masked_affine(self.inner, mask) if folded else mask

    def _masked(self, x: Tensor, state: GateState) -> Tensor:
        prepared = state.prepared.get(self)
        mask = self._mask(state) if prepared is None else prepared
        if mask is None:
            return self.inner(x)
        if isinstance(mask, tuple):
            return _norm_with(self.inner, x, *mask)
        if isinstance(self.inner, nn.LayerNorm):
            return masked_layer_norm(self.inner, x, mask, self.channel_dim)
        if mask.ndim == 2:
            y = self.inner(x)
            return y * along(mask, y, self.channel_dim)
        return masked_call(self.inner, x, mask)

    def _skipped(self, state: GateState, but: tuple[int, ...] = ()) -> bool:
        if not state.closed:
            return False
        return any(branch in state.closed and branch not in but for branch in self.branches)

    def _mask(self, state: GateState) -> Tensor | None:
        mask = None if self.channel_units is None else state.gates.index_select(-1, self.channel_units)
        if self.ends is not None:
            # A copy: the gates of later layers are yet to be filled in, in place.
            gate = state.gates[..., self.ends : self.ends + 1].clone()
            mask = gate if mask is None else mask * gate
        return mask


def masked_call(layer: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """`layer(x)` with output channel c multiplied by mask[c]: folded into scale and shift, or into the weights.

    Args:
        layer: batch norm, convolution or linear layer.
        mask: (C,) or (1,).
    """
    if isinstance(layer, BATCH_NORMS):
        return _norm_with(layer, x, *masked_affine(layer, mask))
    if (
        isinstance(layer, TRANSPOSED) or layer.weight is None
    ):  # a transposed convolution's outputs are not its weight's rows
        y = layer(x)
        return y * along(mask, y, 1)
    tensors = {"weight": layer.weight * mask.view(-1, *(1 for _ in range(layer.weight.ndim - 1)))}  # type: ignore[union-attr, operator]
    if layer.bias is not None:
        tensors["bias"] = layer.bias * mask  # type: ignore[operator]
    return functional_call(layer, tensors, (x,))  # a call of the module: its hooks, a MAC counter's for example, see it


def masked_affine(norm: nn.Module, mask: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Scale and shift of a batch norm under `mask`, (C,) or (1,)."""
    mask = mask.expand(norm.num_features)  # type: ignore[arg-type]
    scale = mask if norm.weight is None else norm.weight * mask  # type: ignore[operator]
    return scale, None if norm.bias is None else norm.bias * mask  # type: ignore[operator]


def _norm_with(norm: nn.Module, x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    use_batch = norm.training or norm.running_mean is None
    momentum = norm.momentum
    if norm.training and norm.track_running_stats and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)  # type: ignore[operator]
        if momentum is None:
            momentum = 1.0 / float(norm.num_batches_tracked)  # type: ignore[arg-type]
    update = not norm.training or norm.track_running_stats
    return F.batch_norm(
        x,
        norm.running_mean if update else None,  # type: ignore[arg-type]
        norm.running_var if update else None,  # type: ignore[arg-type]
        scale,
        shift,
        bool(use_batch),
        momentum,  # type: ignore[arg-type]
        norm.eps,  # type: ignore[arg-type]
    )
