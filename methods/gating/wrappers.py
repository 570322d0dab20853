"""The wrappers around a network's own layers that carry gates during the search.

Channels are closed where it costs nothing: a mask on a batch norm's scale and shift, or on the weights of a layer
without one (`majority`). With one mask for each image (`per_sample`) the output itself is multiplied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from greenprune.methods.gating.heads import GateHead
from greenprune.methods.gating.state import GateState
from greenprune.methods.structure.inputs import first_argument, with_first_argument
from greenprune.methods.structure.macs import TRANSPOSED
from greenprune.methods.structure.masking import along, masked_layer_norm, masked_parameters, scaled
from greenprune.methods.structure.units import BATCH_NORMS, channel_dim, has_channels, is_attention
from torch import Tensor, nn
from torch.func import functional_call


class Gated(nn.Module):
    """A network's own layer, under its gates. Optionally carries the head that decides on units from its input.

    `name` is that of the layer in the network, without the wrappers around it.
    What else a forward may read of the layer (`weight`, `stride`, `in_channels`) is read through to it.
    """

    executed_macs = 0  # of the head in the last call, for `meter.MacMeter`

    def __init__(self, name: str, inner: nn.Module, state: GateState, channel_units: Tensor | None) -> None:
        super().__init__()
        self.name, self.inner = name, inner
        self.is_layer = has_channels(inner) and not is_attention(
            inner
        )  # else any module of a branch, skipped as a whole
        # A subclass may do more than its weights tell: an activation behind them, weights that are standardised.
        self.is_plain = type(inner).forward.__module__.startswith("torch.nn.")
        self.head: GateHead | None = None
        self.decided_branches: tuple[int, ...] = ()  # branch units the head decides on
        self.branches: tuple[int, ...] = ()  # branch units this layer lies in
        self.ends: int | None = None  # branch unit that ends here
        self.channel_dim = channel_dim(inner)
        self.parts: dict[str, Tensor] = {}  # layers in `inner` that it does not call, and their channels' units
        self.features_of = ""  # name of the layer whose input the head looks at
        self._state = (state,)  # a tuple: the state is no submodule
        self.register_buffer("channel_units", channel_units, persistent=False)
        self.register_buffer("input_units", None, persistent=False)  # where closed channels do not arrive as zeros

    def __getattr__(self, name: str) -> Any:
        """What others read of the layer (its stride, its weight) they find here too."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            inner = self.__dict__.get("_modules", {}).get("inner")  # not there yet while a copy is being made
            if inner is None:
                raise
            return getattr(inner, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        state = self._state[0]
        self.executed_macs = 0
        x = _first_tensor(args, kwargs)
        state.note_mode()
        if self.input_units is not None and not self._skipped(state):
            x = x * along(_by_row(state.current.index_select(-1, self.input_units), x), x, self.channel_dim)
            args, kwargs = with_first_argument(args, kwargs, x)
        if self.head is not None and state.searching and not self._skipped(state, but=self.decided_branches):
            batch_first = getattr(self.inner, "batch_first", True) or x.ndim < 3
            state.hear(self.head, self.decided_branches, x if batch_first else x.transpose(0, 1))
            self.executed_macs = self.head.macs * state.batch
        if self._skipped(state):  # the branch adds nothing: do nothing
            return self._nothing(x, state)
        y = self._masked(x, state, args, kwargs)
        if self.ends is not None:
            state.note_shape(self.ends, (self.ends,), y)
        elif self.branches and (not self.is_layer or state.keeps_shapes(self.branches)):
            state.note_shape(self.name, self.branches, y)
        return y

    def _nothing(self, x: Tensor, state: GateState) -> Any:
        """What the layer gives in a branch that is skipped; not x itself: what follows may work in place."""
        if self.ends is not None:
            return state.zeros(self.ends, (self.ends,), x)
        if not self.is_layer or state.keeps_shapes(self.branches):
            return state.zeros(self.name, self.branches, x)
        return x.new_zeros((1,) * x.ndim)

    def _with_parts(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], state: GateState) -> Any:
        """Of a module that uses the weights of its layers by functions these weights are masked."""
        shown: dict[str, Tensor] = {}
        for name, units in self.parts.items():
            values = masked_parameters(self.inner.get_submodule(name), state.current.index_select(-1, units))
            shown |= {f"{name}.{leaf}" if name else leaf: value for leaf, value in values.items()}
        return functional_call(self.inner, shown, args, dict(kwargs)) if shown else self.inner(*args, **kwargs)

    def _closed_or_not(self, output: Any, state: GateState) -> Any:
        """What a module of any kind gave, under the gate of the branch that ends in it."""
        if self.ends is None:
            return output
        gate = state.current[..., self.ends : self.ends + 1].clone()
        return scaled(output, lambda y: along(_by_row(gate, y), y, -1))

    def prepare(self) -> None:
        """Work out ahead what the gates do to this layer; they are known and do not change in this forward pass."""
        state = self._state[0]
        if self.is_layer and not self._skipped(state):
            mask = self._mask(state)
            if mask is not None:
                folded = is_plain_norm(self.inner) and mask.ndim == 1
                state.prepared[self] = masked_affine(self.inner, mask) if folded else mask

    def _masked(self, x: Tensor, state: GateState, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if not self.is_layer:
            return self._closed_or_not(self._with_parts(args, kwargs, state), state)
        prepared = None if state.recomputing else state.prepared.get(self)
        mask = self._mask(state) if prepared is None else prepared
        if mask is None:
            return self.inner(*args, **kwargs)
        if isinstance(mask, tuple):
            return _norm_with(self.inner, x, *mask)
        if isinstance(self.inner, nn.LayerNorm) and self.channel_units is not None:
            return masked_layer_norm(self.inner, x, _by_row(mask, x), self.channel_dim)
        if mask.ndim == 2 or not self.is_plain:
            y = self.inner(*args, **kwargs)
            return y * along(_by_row(mask, y), y, self.channel_dim)
        return masked_call(self.inner, mask, args, kwargs)

    def _skipped(self, state: GateState, but: tuple[int, ...] = ()) -> bool:
        if not state.closed:
            return False
        return any(branch in state.closed and branch not in but for branch in self.branches)

    def _mask(self, state: GateState) -> Tensor | None:
        mask = None if self.channel_units is None else state.current.index_select(-1, self.channel_units)
        if self.ends is not None:
            # A copy: the gates of later layers are yet to be filled in, in place.
            gate = state.current[..., self.ends : self.ends + 1].clone()
            mask = gate if mask is None else mask * gate
        return mask


def _first_tensor(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The first argument that is a tensor of numbers, or else a tensor."""
    given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    return next((t for t in given if t.is_floating_point()), given[0])


def masked_call(layer: nn.Module, mask: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """`layer(*args, **kwargs)`, output channel c multiplied by mask[c]: folded into scale and shift, or into the weights.

    Args:
        layer: norm, convolution or linear layer.
        mask: (C,) or (1,).
    """
    if is_plain_norm(layer):
        x = first_argument(args, kwargs)
        assert x is not None
        return _norm_with(layer, x, *masked_affine(layer, mask))
    weight = layer._parameters.get("weight")
    # A transposed convolution's outputs are not its weight's rows; a weight that is calculated (weight norm) would be
    # calculated again; and a norm with a forward of its own may do more than to normalise.
    if weight is None or isinstance(layer, (*TRANSPOSED, *BATCH_NORMS)):
        y = layer(*args, **kwargs)
        return y * along(mask, y, channel_dim(layer))
    # A call of the module: its hooks, a MAC counter's for example, see it.
    return functional_call(layer, masked_parameters(layer, mask), args, dict(kwargs))


def is_plain_norm(layer: nn.Module) -> bool:
    """A batch norm that does nothing else: a subclass may apply an activation, for example, and a hook wants to be called."""
    hooked = layer._forward_hooks or layer._forward_pre_hooks
    return isinstance(layer, BATCH_NORMS) and type(layer).forward is nn.BatchNorm2d.forward and not hooked


def _by_row(mask: Tensor, x: Tensor) -> Tensor:
    """`mask`, (C,) or for each example (B, C), for the rows of `x`, in which an example may have several (frames, patches)."""
    if mask.ndim == 1 or len(mask) == len(x):
        return mask
    if len(x) % len(mask):
        raise RuntimeError(
            f"a layer gets {len(x)} rows for {len(mask)} examples, so it is not known which row is of which example: "
            'execution = "per_sample" is not possible in this network'
        )
    return mask.repeat_interleave(len(x) // len(mask), dim=0)


def masked_affine(norm: nn.Module, mask: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Scale and shift of a batch norm under `mask`, (C,) or (1,)."""
    mask = mask.expand(norm.num_features)  # type: ignore[arg-type]
    if norm.weight is not None:
        mask = mask.to(norm.weight.dtype)  # type: ignore[arg-type]
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
