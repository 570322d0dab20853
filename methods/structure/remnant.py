"""What a closed residual branch can leave behind: a thin branch, at an eighth of its cost or less.

Of the connections of its convolutions those stay that do one thing at a time: in the first the taps of each channel on
itself (a depthwise convolution), in the others the centre taps (a 1x1 convolution), and with `thin` each channel's taps on
itself as well (the sum of both). What stays is made of plain layers, and a part of the dense network's. It costs
1 / channels and 1 / k^2 of the convolutions, while a layer that is gone costs nothing but can do nothing either: with the
same MACs, closed layers with remnants and a few channels fewer elsewhere lose less (docs/explanation/tried.md). In time it
is often no bargain, as depthwise convolutions move as much memory as full ones: see `gating.leaving`.

While a search goes on a branch that closes fades (`fade`): what will not stay shrinks to nothing, and what stays learns to
do without it. A branch that stops from one step to the next makes the loss jump, and in one of two trials the network
had not made up for that at the end of its training (docs/explanation/tried.md).

Ours; the paper (arXiv 2302.10798) counts connections and removes layers. Separable layers: Chollet 2017 (arXiv 1610.02357).
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Literal, TypeGuard

import torch
import torch.fx
from greenprune.methods.structure.parameters import add_parameter, replace_parameter
from greenprune.methods.structure.places import put
from greenprune.methods.structure.units import Branch, Remnant, Structure, Taps
from torch import Tensor, nn

RemnantKind = Literal["thin", "separable"]

TAPS: dict[RemnantKind, tuple[Taps, Taps]] = {"thin": ("own", "both"), "separable": ("own", "centre")}
"""What stays of a branch's first convolution, and of each of the others."""


def thin_convolution(centre: nn.Conv2d, own: nn.Conv2d) -> torch.fx.GraphModule:
    """What is left of a k x k convolution: the sum of its centre taps and each channel's taps on itself.

    A module with generated code, like blocks whose branch was removed: it needs nothing of this package.

    Args:
        centre: 1x1 convolution.
        own: depthwise k x k convolution of as many channels.
    """
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(operator.add, (graph.call_module("centre", (x,)), graph.call_module("own", (x,)))))
    return torch.fx.GraphModule({"centre": centre, "own": own}, graph, class_name="ThinConvolution")


def is_thin(module: nn.Module) -> TypeGuard[torch.fx.GraphModule]:
    """Whether `thin_convolution` made it."""
    return isinstance(module, torch.fx.GraphModule) and list(module._modules) == ["centre", "own"]


def with_remnants(
    structure: Structure, model: nn.Module, kind: RemnantKind | Mapping[int, RemnantKind] = "thin"
) -> Structure:
    """`structure` with a `Remnant` for every branch that can leave one; the others are removed when they close.

    A branch can leave one when its layers are at least two 2-d convolutions that keep size and number of channels (odd
    square kernels of at least 3x3, zero padding, no stride, no groups), batch norms, and functions without parameters.

    Args:
        structure: traced from `model` as it is, or as it was before branches were removed.
        kind: which taps stay, see `TAPS`; or this by the unit of the branch, where those without one are removed.
    """
    modules = dict(model.named_modules())
    kinds = {b.unit: kind for b in structure.branches} if isinstance(kind, str) else kind
    branches = tuple(
        replace(b, remnant=_remnant(b, structure, modules, kinds[b.unit]) if b.unit in kinds else None)
        for b in structure.branches
    )
    return replace(structure, branches=branches)


def kind_of(remnant: Remnant) -> RemnantKind:
    """Which one it is."""
    return "thin" if "both" in remnant.taps else "separable"


def _remnant(branch: Branch, structure: Structure, modules: dict[str, nn.Module], kind: RemnantKind) -> Remnant | None:
    if any(name not in modules for name in branch.modules):
        return None
    if any(structure.layers[name].branches != (branch.unit,) for name in branch.modules if name in structure.layers):
        return None  # a branch around it could go without it
    convolutions = []
    for name in branch.modules:
        module = modules[name]
        if isinstance(module, nn.Conv2d):
            convolutions.append(name)
        elif not isinstance(module, nn.BatchNorm2d) and any(True for _ in module.parameters()):
            return None
    layers = [modules[name] for name in convolutions]
    if len(layers) < 2 or not all(_keeps_shape(layer) for layer in layers):
        return None
    if len({layer.in_channels for layer in layers}) > 1:
        return None
    first, others = TAPS[kind]
    taps = (first, *[others] * (len(layers) - 1))
    shares = [_share(layer, which) for layer, which in zip(layers, taps, strict=True)]
    return Remnant(
        tuple(convolutions),
        taps,
        tuple(int(structure.layers[name].macs * share) for name, share in zip(convolutions, shares, strict=True)),
        tuple(int(layer.weight.numel() * share) for layer, share in zip(layers, shares, strict=True)),
    )


def _share(layer: nn.Conv2d, taps: Taps) -> Fraction:
    """Of the multiply-accumulates, and of the weights, of `layer`; the own taps include the one in the centre."""
    own, centre = Fraction(1, layer.in_channels), Fraction(1, layer.kernel_size[0] ** 2)
    return {"own": own, "centre": centre, "both": own + centre}[taps]


def _keeps_shape(layer: nn.Conv2d) -> bool:
    height, width = layer.kernel_size
    return (
        height == width
        and height % 2 == 1
        and height > 1
        and layer.stride == layer.dilation == (1, 1)
        and layer.padding == (height // 2, width // 2)
        and layer.padding_mode == "zeros"
        and layer.groups == 1
        and layer.in_channels == layer.out_channels
        and isinstance(layer._parameters.get("weight"), nn.Parameter)  # not calculated from others
        and type(layer).forward is nn.Conv2d.forward
    )


def staying(weight: Tensor, taps: Taps) -> Tensor:
    """Bool, for (C, C, k, k) weights of a convolution: which of them stay in its remnant."""
    middle = weight.shape[-1] // 2
    own = torch.eye(len(weight), dtype=torch.bool, device=weight.device)[:, :, None, None].expand_as(weight)
    centre = torch.zeros(weight.shape[2:], dtype=torch.bool, device=weight.device)
    centre[middle, middle] = True
    return {"own": own, "centre": centre.expand_as(weight), "both": own | centre}[taps]


@torch.no_grad()
def fade(model: nn.Module, branch: Branch, factor: float) -> None:
    """Multiply all that will not stay of `branch` by `factor`, in place; 0 makes the branch do what its remnant does.

    Args:
        model: the network, also with its layers in wrappers that call them `inner`.
    """
    assert branch.remnant is not None
    for name, taps in zip(branch.remnant.convolutions, branch.remnant.taps, strict=True):
        layer = model.get_submodule(name)
        layer = getattr(layer, "inner", layer)
        weight = layer.weight
        assert isinstance(weight, Tensor)
        weight.mul_(torch.where(staying(weight, taps), 1.0, factor))


@torch.no_grad()
def leave_remnant(model: nn.Module, branch: Branch, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Turn `branch`, whose channels are all there, into its remnant, in place.

    It computes what the branch would with all other taps at 0, and trains on: weights, statistics of norms and the
    optimizer's state of what stays are kept.
    """
    assert branch.remnant is not None
    for name, taps in zip(branch.remnant.convolutions, branch.remnant.taps, strict=True):
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)
        put(model, layer, _left(layer, taps, optimizer))


def left_of(layer: nn.Conv2d, taps: Taps) -> nn.Module:
    """What stays of a convolution, which is left as it was."""
    with torch.no_grad():
        return _left(copy.deepcopy(layer), taps, None)


def _left(layer: nn.Conv2d, taps: Taps, optimizer: torch.optim.Optimizer | None) -> nn.Module:
    left: nn.Module = layer
    if taps == "both":
        left = thin_convolution(layer, _own_taps(layer, optimizer)).train(layer.training)
    _narrow_kernel(layer, depthwise=taps == "own", optimizer=optimizer)
    return left


def _own_taps(layer: nn.Conv2d, optimizer: torch.optim.Optimizer | None) -> nn.Conv2d:
    """Of each channel on itself, but for the one in the centre, which the centre taps have (0 here, and free to learn)."""
    weight = layer.weight.detach()
    own = torch.nn.utils.skip_init(  # draws no random numbers, which others may count on
        nn.Conv2d, layer.in_channels, layer.in_channels, layer.kernel_size, padding=layer.padding,
        groups=layer.in_channels, bias=False, device=weight.device, dtype=weight.dtype,
    )  # fmt: skip
    own.weight = nn.Parameter(_ring(weight), requires_grad=layer.weight.requires_grad)
    if optimizer is not None:
        add_parameter(optimizer, own.weight, list(layer.parameters())[-1], layer.weight, _ring)
    return own.train(layer.training)


def _ring(weight: Tensor) -> Tensor:
    """(C, C, k, k) to (C, 1, k, k): each channel on itself, 0 in the centre."""
    values, middle = _diagonal(weight), weight.shape[-1] // 2
    values[:, :, middle, middle] = 0.0
    return values


def _diagonal(weight: Tensor) -> Tensor:
    """(C, C, k, k) to (C, 1, k, k), in the same memory format."""
    channels = torch.arange(len(weight), device=weight.device)
    return _as(weight, weight[channels, channels].unsqueeze(1))


def _centre(weight: Tensor) -> Tensor:
    """(C, C, k, k) to (C, C, 1, 1), in the same memory format."""
    middle = weight.shape[-1] // 2
    return _as(weight, weight[:, :, middle : middle + 1, middle : middle + 1])


def _as(weight: Tensor, values: Tensor) -> Tensor:
    last = weight.is_contiguous(memory_format=torch.channels_last)
    return values.clone(memory_format=torch.channels_last if last else torch.contiguous_format)


def _narrow_kernel(layer: nn.Conv2d, *, depthwise: bool, optimizer: torch.optim.Optimizer | None) -> None:
    take = _diagonal if depthwise else _centre
    replace_parameter(layer, "weight", take(layer.weight.detach()), optimizer, take)
    if depthwise:
        layer.groups = layer.in_channels
    else:
        layer.kernel_size, layer.padding = (1, 1), (0, 0)
        layer._reversed_padding_repeated_twice = [0, 0, 0, 0]


def stored_kind(convolutions: Sequence[str], tensors: dict[str, Tensor]) -> RemnantKind | None:
    """Which remnant of a branch with these convolutions a state dict holds; None: the branch itself, or nothing of it."""
    if all(f"{name}.centre.weight" in tensors for name in convolutions[1:]):
        return "thin"
    weights = [tensors.get(f"{name}.weight") for name in convolutions[1:]]
    return "separable" if all(weight is not None and weight.shape[2:] == (1, 1) for weight in weights) else None
