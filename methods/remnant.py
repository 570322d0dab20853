"""What a closed residual branch can leave behind: a depthwise separable branch, at a tenth of its cost.

Of the connections of its convolutions those stay that do one thing at a time: in the first the taps of each channel on
itself (a depthwise convolution), in the others the centre taps (1x1 convolutions). What stays is a plain layer, and a part
of the dense network's. It costs 1 / channels and 1 / k^2 of the convolutions, while a layer that is gone costs nothing but
can do nothing either: with the same MACs, closed layers with remnants and a few channels fewer elsewhere lose less
(results/gated). In time it is no bargain: depthwise convolutions move as much memory as full ones.

Ours; the paper (arXiv 2302.10798) counts connections and removes layers. Separable layers: Chollet 2017 (arXiv 1610.02357).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from methods.parameters import replace_parameter
from methods.units import Branch, Remnant, Structure


def with_remnants(structure: Structure, model: nn.Module) -> Structure:
    """`structure` with a `Remnant` for every branch that can leave one; the others are removed when they close.

    A branch can leave one when its layers are at least two 2-d convolutions that keep size and number of channels (odd
    square kernels of at least 3x3, zero padding, no stride, no groups), batch norms (the last layer with a scale), and
    functions without parameters.

    Args:
        structure: traced from `model` as it is, or as it was before branches were removed.
    """
    modules = dict(model.named_modules())
    branches = tuple(replace(b, remnant=_remnant(b, structure, modules)) for b in structure.branches)
    return replace(structure, branches=branches)


def _remnant(branch: Branch, structure: Structure, modules: dict[str, nn.Module]) -> Remnant | None:
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
    if getattr(modules[branch.end], "weight", None) is None:
        return None  # a norm without a scale: nothing could make it begin at 0
    layers = [modules[name] for name in convolutions]
    if len(layers) < 2 or not all(_keeps_shape(layer) for layer in layers):
        return None
    if len({layer.in_channels for layer in layers}) > 1:
        return None
    shares = [layers[0].in_channels, *(layer.kernel_size[0] ** 2 for layer in layers[1:])]
    return Remnant(
        tuple(convolutions),
        tuple(structure.layers[name].macs // share for name, share in zip(convolutions, shares, strict=True)),
        tuple(layer.weight.numel() // share for layer, share in zip(layers, shares, strict=True)),
    )


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
        and not hasattr(layer, "parametrizations")
    )


@torch.no_grad()
def leave_remnant(model: nn.Module, branch: Branch, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Turn `branch`, whose channels are all there, into its remnant, in place.

    It begins by adding nothing, as the closed branch did: the last layer's scale and shift (weights and bias without a norm)
    are 0, and from there it learns. The optimizer's state of what changes is dropped, statistics of norms start anew.
    """
    assert branch.remnant is not None
    modules = dict(model.named_modules())
    for place, name in enumerate(branch.remnant.convolutions):
        layer = modules[name]
        assert isinstance(layer, nn.Conv2d)
        _narrow_kernel(layer, depthwise=place == 0, optimizer=optimizer)
    for name in branch.modules:
        if isinstance(modules[name], nn.BatchNorm2d):
            modules[name].reset_running_stats()
    end = modules[branch.end]
    for name in ("weight", "bias"):
        if (parameter := getattr(end, name, None)) is not None:
            replace_parameter(end, name, torch.zeros_like(parameter), optimizer, None)


def _narrow_kernel(layer: nn.Conv2d, *, depthwise: bool, optimizer: torch.optim.Optimizer | None) -> None:
    weight, channels, middle = layer.weight.detach(), layer.in_channels, layer.kernel_size[0] // 2
    if depthwise:
        own = torch.arange(channels, device=weight.device)
        values, layer.groups = weight[own, own].unsqueeze(1), channels
    else:
        values = weight[:, :, middle : middle + 1, middle : middle + 1]
        layer.kernel_size, layer.padding = (1, 1), (0, 0)
        layer._reversed_padding_repeated_twice = [0, 0, 0, 0]
    last = weight.is_contiguous(memory_format=torch.channels_last)
    values = values.clone(memory_format=torch.channels_last if last else torch.contiguous_format)
    replace_parameter(layer, "weight", values, optimizer, None)


def is_remnant(remnant: Remnant, tensors: dict[str, Tensor]) -> bool:
    """Whether a state dict holds the remnant of a branch and not the branch: its later kernels are 1x1."""
    weights = [tensors.get(f"{name}.weight") for name in remnant.convolutions[1:]]
    return all(weight is not None and weight.shape[2:] == (1, 1) for weight in weights)
