"""The removable structure of a network as plain data: units, groups of channels, residual branches, layers.

A *unit* is the smallest thing that can be removed: one channel together with everything coupled to it (the norm behind
it, the inputs of the layers that read it, its partners in a residual stream, all channels of its group in a grouped
convolution), or one residual branch (a removable layer). Units are numbered 0..U-1, channels first, then branches.
Every layer knows for each of its channels which unit it belongs to; masking, counting cost and cutting all read that one
table. `structure.trace` fills it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from greenprune.methods.structure.macs import CONVOLUTIONS, COUNTED
from torch import Tensor, nn

FIXED = -1
"""Unit number of a channel that cannot be removed (network input and output, for example)."""

ALWAYS_OPEN = torch.tensor([FIXED])
"""Units of a side that does not matter: one channel that is always open."""

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
CHANNEL_MODULES = (*COUNTED, *BATCH_NORMS, *INSTANCE_NORMS, nn.LayerNorm, nn.GroupNorm, nn.PReLU)
"""Module types whose channels can be cut."""


@dataclass(frozen=True)
class ChannelGroup:
    """Channels `start .. start + width - 1` of the unit numbering: one layer's output channels and all coupled to it.

    Attributes:
        name: the layer that the group is named after, the first convolution (or linear layer) that produces it.
        start, width: in units; a unit is one channel, or one whole group of a grouped convolution.
        producers: all layers that produce these channels (several in a residual stream).
    """

    name: str
    start: int
    width: int
    producers: tuple[str, ...]

    @property
    def units(self) -> slice:
        return slice(self.start, self.start + self.width)


Taps = Literal["own", "centre", "both"]
"""Of a convolution's kernel (out, in, k, k): those of each channel on itself, those in the centre of the k x k, or both."""


@dataclass(frozen=True)
class Remnant:
    """What stays of a residual branch that is closed instead of removed: a thin one, see remnant.py.

    Attributes:
        convolutions: by name in the order of execution.
        taps: which taps of each of them stay.
        macs, params: what is left of each of them, multiply-accumulates for one image and weights.
    """

    convolutions: tuple[str, ...]
    taps: tuple[Taps, ...]
    macs: tuple[int, ...]
    params: tuple[int, ...]


@dataclass(frozen=True)
class Silence:
    """What is put in the place of a module in a closed branch, see emptying.py.

    Attributes:
        name: of the module.
        argument: the keyword that its input comes by; "" for the first argument.
        output: what it gives: the number of dimensions of a tensor, "input" for one of its input's shape, None, or a tuple.
        cache: the keyword that it is given a cache of keys and values by, to which it adds at its `layer_idx`; "": by none.
    """

    name: str
    argument: str
    output: Any
    cache: str = ""


@dataclass(frozen=True)
class Branch:
    """A residual branch whose removal leaves the shortcut: `x + f(x)` becomes `x`.

    Attributes:
        name: the module that holds it ("" is the network): its forward does the addition.
        unit: its number.
        modules: the layers (and activations and so on) called in the branch, in order.
        end: the last norm, convolution or linear layer that everything in the branch passes through; where its output
            can be closed.
        blocks: the outermost modules of which all that they do belongs to the branch, in order.
        parameters: those in no module of it that go with it (a layer scale) when it is taken out of the code.
        constants: arguments of the holder that its code is traced with, see retracing.py; None: it cannot be traced, and
            the branch is emptied instead.
        silences: what the blocks are replaced by when it is emptied; None: it cannot be.
        remnant: what stays where it is closed; None: nothing, the branch is removed.
        projected: whether the shortcut computes something: the stream changes its size or its channels there.
    """

    name: str
    unit: int
    modules: tuple[str, ...]
    end: str
    blocks: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    constants: tuple[tuple[str, Any], ...] | None = ()
    silences: tuple[Silence, ...] | None = None
    remnant: Remnant | None = None
    projected: bool = False

    @property
    def multiplies_zeros(self) -> bool:
        """Whether the code around its modules multiplies on when it is closed: they leave zeros of the full shape."""
        return self.constants is None and any(
            "input" in (s.output if isinstance(s.output, tuple) else (s.output,)) for s in self.silences or ()
        )

    def holds(self, name: str) -> bool:
        """Whether the module `name` lies in it."""
        return any(name == block or name.startswith(f"{block}.") for block in self.blocks)


@dataclass(frozen=True)
class Layer:
    """A module with channels. `out_units[i]` is the unit of output channel i (for a norm: of channel i), or FIXED.

    Attributes:
        masks_output: a closed unit is zeroed in this layer's output: every batch norm, and producers no batch norm
            follows. A layer norm that masks its output also leaves the closed channels out of its statistics.
        masks_input: a closed unit is zeroed in this layer's input, because it is not zero any more when it arrives (an
            activation with f(0) != 0, a shift behind the mask).
        channel_dim: where a layer norm has its channels; 1 or -1.
        row_units: of the positions that the layer works along one by one, where channels of others lie there (a mixer's,
            under the layer that mixes tokens).
        owner: the module that uses its weights by a function, without calling it; None: it is called.
        turned: its weight has the output channels along its second dimension.
    """

    name: str
    out_units: Tensor
    in_units: Tensor
    macs: int  # multiply-accumulates for one image, dense; 0 for a norm
    branches: tuple[int, ...] = ()  # units of the branches it lies in
    depthwise: bool = False  # in and out are coupled group by group, so its cost is linear in the channels left
    masks_output: bool = False
    masks_input: bool = False
    channel_dim: int = 1
    row_units: Tensor = ALWAYS_OPEN
    owner: str | None = None
    turned: bool = False


@dataclass(frozen=True)
class ChannelParameter:
    """A parameter outside any known layer with one entry per channel (layer scale): entry i along `dim` is of `units[i]`."""

    name: str
    dim: int
    units: Tensor


@dataclass(frozen=True)
class Product:
    """What a network multiplies without the weight of a layer: attention, products of activations, recurrent layers.

    Attributes:
        name: of the module at work.
        operation: what PyTorch calls it.
        macs: multiply-accumulates for one image, dense.
        sides: for each set of dimensions along which something can be removed, the unit of each entry, or FIXED.
        branches: units of the branches it lies in.
    """

    name: str
    operation: str
    macs: int
    sides: tuple[Tensor, ...] = ()
    branches: tuple[int, ...] = ()


@dataclass(frozen=True)
class Attribute:
    """An integer attribute of a module (or entry `index` of a list) that counts what is left of `units` (n,)."""

    name: str
    index: int | None
    units: Tensor


@dataclass(frozen=True)
class SizedCall:
    """A call of `view` or the like in a module's code.

    Attributes:
        call: where it stands (`flow.sites.Call`).
        rank: how many sizes it is given.
        sizes: (position, unit or FIXED of each entry, whether the old number is scaled instead of replaced).
    """

    call: Any
    rank: int
    sizes: tuple[tuple[int, Tensor, bool], ...]
    full: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.full:  # the sizes in the source, which stay when the tables shrink
            self.full.update({position: len(table) for position, table, _ in self.sizes})


@dataclass(frozen=True)
class Shapes:
    """Sizes in the code of one module that follow its channels, see `shapes`."""

    module: str
    attributes: tuple[Attribute, ...] = ()
    calls: tuple[SizedCall, ...] = ()


@dataclass(frozen=True)
class Structure:
    """The removable structure of one network.

    Attributes:
        groups, branches: what can be removed.
        layers: every module with channels, by name.
        fixed: (layer, reason) for every producer whose channels cannot be removed.
        fixed_branches: (name, reason) for every addition that looks like a residual branch and cannot be removed.
        parameters: parameters outside the layers that lose entries with the channels.
        products: what is multiplied without a layer's weight.
        uncounted: (operation, module) that may multiply, and whose multiply-accumulates nobody knows.
        shapes: sizes in the code that follow the channels.
    """

    groups: tuple[ChannelGroup, ...]
    branches: tuple[Branch, ...]
    layers: dict[str, Layer]
    fixed: tuple[tuple[str, str], ...] = ()
    fixed_branches: tuple[tuple[str, str], ...] = ()
    parameters: tuple[ChannelParameter, ...] = ()
    products: tuple[Product, ...] = ()
    uncounted: tuple[tuple[str, str], ...] = ()
    shapes: tuple[Shapes, ...] = ()

    @property
    def units(self) -> int:
        return sum(g.width for g in self.groups) + len(self.branches)

    @property
    def channel_units(self) -> Tensor:
        """(U,) bool: the units that are channels; the others are branches."""
        return torch.arange(self.units) < self.units - len(self.branches)

    def channels_inside(self, branch: int) -> list[int]:
        """The channels that exist inside the branch with this unit alone; they go where it is removed."""
        inside = (g for g in self.groups if all(branch in self.layers[name].branches for name in g.producers))
        return [unit for group in inside for unit in range(group.start, group.start + group.width)]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the dense network for one image."""
        return sum(layer.macs for layer in self.layers.values()) + sum(product.macs for product in self.products)


def is_transposed_linear(module: nn.Module) -> bool:
    """A linear layer with its weight as (in, out), such as the `Conv1D` of transformers' GPT-2."""
    weight = getattr(module, "weight", None)
    return (
        hasattr(module, "nf") and isinstance(weight, Tensor) and weight.ndim == 2 and not isinstance(module, nn.Linear)
    )


def is_attention(module: nn.Module) -> bool:
    """An `nn.MultiheadAttention`. The rows of its `projections` count as its output channels."""
    return isinstance(module, nn.MultiheadAttention)


def projections(attention: nn.Module) -> tuple[str, ...]:
    """The names of the weights of query, key and value: of one, or of three where key and value have widths of their own."""
    packed = attention._parameters.get("in_proj_weight") is not None
    return ("in_proj_weight",) if packed else ("q_proj_weight", "k_proj_weight", "v_proj_weight")


def is_writer(module: nn.Module | None) -> bool:
    """A layer with a weight that makes channels of others."""
    if module is None:
        return False
    return isinstance(module, COUNTED) or is_transposed_linear(module) or is_attention(module)


def has_channels(module: nn.Module) -> bool:
    """Whether its channels can be cut."""
    return isinstance(module, CHANNEL_MODULES) or is_writer(module)


def is_depthwise(module: nn.Module) -> bool:
    """A convolution of several groups: its input and output channels are removed together, group by group."""
    return isinstance(module, CONVOLUTIONS) and module.groups > 1


def channel_counts(module: nn.Module) -> tuple[int, int]:
    """Output and input channels of one of `CHANNEL_MODULES` (the same number for a norm or an activation)."""
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    if is_attention(module):
        weights = [module.get_parameter(name) for name in projections(module)]
        return sum(len(w) for w in weights), weights[0].shape[1]
    if is_transposed_linear(module):
        into, out = module.weight.shape  # type: ignore[union-attr, operator]
        return int(out), int(into)
    if isinstance(module, CONVOLUTIONS):
        return module.out_channels, module.in_channels
    if isinstance(module, nn.LayerNorm):
        width = module.normalized_shape[-1]
    elif isinstance(module, nn.GroupNorm):
        width = module.num_channels
    elif isinstance(module, nn.PReLU):
        width = module.num_parameters
    else:
        width = module.num_features  # type: ignore[assignment]
    return width, width


def channel_dim(module: nn.Module) -> int:
    """Which dimension of the input and output of a convolution, linear layer or batch norm holds the channels."""
    return -1 if isinstance(module, nn.Linear) or is_transposed_linear(module) else 1
