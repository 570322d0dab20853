"""Physical removal: smaller weights, statistics and optimizer state, and residual branches that are gone.

The result is the network's own modules with fewer channels. Where a residual branch is removed, the module that held it
is replaced by its torch.fx trace without the branch (`retracing`), or the modules in it by ones that compute nothing
(`emptying`): plain `nn.Module`s with generated forward code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.fx
from greenprune.methods.structure import outputs
from greenprune.methods.structure.attention import cut_heads
from greenprune.methods.structure.copying import copy_of
from greenprune.methods.structure.emptying import silent, without_fast_path
from greenprune.methods.structure.inputs import ExampleInputs, Inputs, first_argument, with_first_argument
from greenprune.methods.structure.macs import TRANSPOSED
from greenprune.methods.structure.masking import along, forget_cached, masked_layer_norm, masked_parameters, scaled
from greenprune.methods.structure.modes import evaluating
from greenprune.methods.structure.parameters import cut_parameter, forget, take
from greenprune.methods.structure.places import put
from greenprune.methods.structure.remnant import fade, leave_remnant
from greenprune.methods.structure.retracing import retraced
from greenprune.methods.structure.shapes import follow
from greenprune.methods.structure.units import (
    Branch,
    ChannelParameter,
    Layer,
    Structure,
    channel_dim,
    is_attention,
    is_depthwise,
    is_transposed_linear,
    is_writer,
)
from torch import Tensor, nn


def remove(
    model: nn.Module, structure: Structure, keep: Tensor, optimizer: torch.optim.Optimizer | None = None
) -> nn.Module:
    """Cut every unit that `keep` closes out of `model`, in place. Of a branch with a `Remnant` that remnant stays.

    Args:
        model: the traced network.
        structure: of `model` as it is now.
        keep: (U,) bool, the units that stay.
        optimizer: its parameters and state (momentum and the like) are cut to match, and those of removed layers dropped.

    Returns:
        `model`, or its replacement when the outermost module itself held a removed branch.
    """
    padded = torch.cat([keep.cpu(), torch.ones(1, dtype=torch.bool)])  # FIXED is -1: the last entry
    modules = dict(model.named_modules())
    closed = [b for b in structure.branches if not keep[b.unit]]
    remnants = [b for b in closed if b.remnant is not None]
    whole = {name for b in remnants for name in b.modules}  # a remnant has all of its channels
    for layer in structure.layers.values():
        if layer.name not in whole:
            _cut_layer(modules[layer.name], padded[layer.out_units], padded[layer.in_units], optimizer)
    for branch in remnants:
        leave_remnant(model, branch, optimizer)
    for parameter in structure.parameters:
        _cut_channel_parameter(model, parameter, padded[parameter.units], optimizer)
    follow(model, structure.shapes, padded)
    before = list(model.parameters())  # after the cut, which replaced them
    model = remove_branches(model, [b for b in closed if b.remnant is None])
    forget_cached(model)
    if optimizer is not None:
        left = {id(p) for p in model.parameters()}
        forget(optimizer, [p for p in before if id(p) not in left])
    return model


def _cut_layer(module: nn.Module, keep_out: Tensor, keep_in: Tensor, optimizer: torch.optim.Optimizer | None) -> None:
    if keep_out.all() and keep_in.all():
        return
    rows, columns = keep_out.nonzero().flatten(), keep_in.nonzero().flatten()
    if not is_writer(module):
        for name in ("weight", "bias"):
            cut_parameter(module, name, {0: rows}, optimizer)
        for name in ("running_mean", "running_var"):
            buffer = getattr(module, name, None)
            if buffer is not None:
                setattr(module, name, take(buffer, {0: rows}))
        set_width(module, len(rows))
        return
    if is_attention(module):
        cut_heads(module, rows, columns, optimizer)  # type: ignore[arg-type]
        return
    turned = isinstance(module, TRANSPOSED) or is_transposed_linear(module)
    out, into = (1, 0) if turned else (0, 1)
    if is_depthwise(module):  # whole groups go, so what is left of a filter has its full depth
        cut_parameter(module, "weight", {0: columns if isinstance(module, TRANSPOSED) else rows}, optimizer)
        module.groups = len(columns) // (module.in_channels // module.groups)  # type: ignore[assignment, operator]
    else:
        cut_parameter(module, "weight", {out: rows, into: columns}, optimizer)
    cut_parameter(module, "bias", {0: rows}, optimizer)
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = len(rows), len(columns)
    elif is_transposed_linear(module):
        module.nf = len(rows)  # type: ignore[assignment]
        if hasattr(module, "nx"):
            module.nx = len(columns)  # type: ignore[assignment]
    else:
        module.out_channels, module.in_channels = len(rows), len(columns)  # type: ignore[assignment]


def set_width(module: nn.Module, width: int) -> None:
    """Tell a norm or an activation how many channels it has now."""
    if isinstance(module, nn.LayerNorm):
        module.normalized_shape = (width,)
    elif isinstance(module, nn.GroupNorm):  # whole groups go
        module.num_groups, module.num_channels = module.num_groups * width // module.num_channels, width
    elif isinstance(module, nn.PReLU):
        module.num_parameters = width
    else:
        module.num_features = width  # type: ignore[assignment]


def _cut_channel_parameter(
    model: nn.Module, parameter: ChannelParameter, keep: Tensor, optimizer: torch.optim.Optimizer | None
) -> None:
    if not keep.all():
        owner, _, leaf = parameter.name.rpartition(".")
        module, index = model.get_submodule(owner), {parameter.dim: keep.nonzero().flatten()}
        if leaf in module._buffers:
            setattr(module, leaf, take(getattr(module, leaf), index))
        else:
            cut_parameter(module, leaf, index, optimizer)
            if isinstance(module, nn.MultiheadAttention) and leaf in ("k_proj_weight", "v_proj_weight"):
                setattr(module, "kdim" if leaf[0] == "k" else "vdim", len(index[parameter.dim]))


def cut_rows(module: nn.Linear, rows: Tensor, optimizer: torch.optim.Optimizer | None) -> None:
    """Keep the outputs `rows` (indices) of a linear layer, in place, with the optimizer's state for them."""
    cut_parameter(module, "weight", {0: rows}, optimizer)
    cut_parameter(module, "bias", {0: rows}, optimizer)
    module.out_features = len(rows)


def remove_branches(model: nn.Module, branches: list[Branch]) -> nn.Module:
    """Take all `branches` out, innermost holders first: a holder's replacement inlines the modules inside it."""
    for branch in sorted(branches, key=lambda b: -len(b.name.split(".")) if b.name else 0):
        inside = [b for b in branches if b is not branch and set(branch.modules) < set(b.modules)]
        if not inside:  # otherwise it goes with the branch around it
            model = remove_branch(model, branch)
    return model


def remove_branch(model: nn.Module, branch: Branch) -> nn.Module:
    """Take one residual branch out of `model`, in place; returns `model` or its replacement (see `remove`)."""
    if branch.constants is None:
        without_fast_path(model)
        for silence in branch.silences or ():
            module = model.get_submodule(silence.name)
            put(model, module, silent(module, silence))
        return model
    end = branch.end.removeprefix(f"{branch.name}." if branch.name else "")
    holder = model.get_submodule(branch.name)
    replacement = retraced(holder, end, dict(branch.constants))
    if not branch.name:
        return replacement
    put(model, holder, replacement)
    return model


@contextmanager
def masked(model: nn.Module, structure: Structure, keep: Tensor) -> Iterator[nn.Module]:
    """`model` with every closed unit multiplied by zero but nothing removed: the reference that removal must equal.

    Masks sit where the search has them too (see `units.Layer`). Of a closed branch with a `Remnant` all taps are multiplied
    by zero that do not stay.
    """
    padded = torch.cat([keep.cpu(), torch.ones(1, dtype=torch.bool)])
    modules = dict(model.named_modules())
    remnants = [b for b in structure.branches if b.remnant is not None and not keep[b.unit]]
    whole = {name for b in remnants for name in b.modules}  # a remnant has all of its channels
    before = {name: modules[name].weight.detach().clone() for b in remnants for name in b.remnant.convolutions}  # type: ignore[union-attr, operator]
    for branch in remnants:
        fade(model, branch, 0.0)
    ends = {b.end: bool(keep[b.unit]) for b in structure.branches}
    handles = []
    swapped: list[tuple[nn.Module, dict[str, Tensor]]] = []
    for layer in structure.layers.values():
        module = modules[layer.name]
        if layer.name in whole:
            continue
        if layer.owner is not None:  # it is not called
            if layer.masks_output:
                swapped.append((module, swap_parameters(module, masked_parameters(module, padded[layer.out_units]))))
            continue
        if layer.masks_output or layer.name in ends:
            mask = padded[layer.out_units] if layer.masks_output else torch.ones(1, dtype=torch.bool)
            hook = _mask_output(layer, mask, ends.get(layer.name, True))
            handles.append(module.register_forward_hook(hook, with_kwargs=True))
        if layer.masks_input:
            before_call = _mask_input(padded[layer.in_units])
            handles.append(module.register_forward_pre_hook(before_call, with_kwargs=True))
    without_fast_path(model)
    for name, is_open in ends.items():
        if (name not in structure.layers or structure.layers[name].owner is not None) and not is_open:
            handles.append(modules[name].register_forward_hook(lambda m, x, y: scaled(y, torch.zeros_like)))
    try:
        yield model
    finally:
        for handle in handles:
            handle.remove()
        for module, own in swapped:
            swap_parameters(module, own)
        with torch.no_grad():
            for name, weight in before.items():
                modules[name].weight.copy_(weight)  # type: ignore[union-attr, operator]


def _mask_output(layer: Layer, mask: Tensor, is_open: bool) -> Callable[[nn.Module, tuple, dict, Tensor], Tensor]:
    def multiply(module: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> Tensor:
        on_device = mask.to(output.device)
        if isinstance(module, nn.LayerNorm):
            x = first_argument(args, kwargs)
            assert x is not None
            return masked_layer_norm(module, x, on_device, layer.channel_dim) * float(is_open)
        return output * along(on_device, output, channel_dim(module)) * float(is_open)

    return multiply


def _mask_input(mask: Tensor) -> Callable[[nn.Module, tuple, dict], tuple[tuple, dict]]:
    def multiply(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        x = first_argument(args, kwargs)
        assert x is not None
        return with_first_argument(args, kwargs, x * along(mask.to(x.device), x, channel_dim(module)))

    return multiply


def swap_parameters(module: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give parameters other values without touching their own; returns those."""
    before = {name: module._parameters[name] for name in tensors}
    for name, tensor in tensors.items():
        module._parameters[name] = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor.detach())
    return before  # type: ignore[return-value]


@torch.no_grad()
def evaluate(model: nn.Module, inputs: ExampleInputs) -> Any:
    """What the network returns in eval mode; the modules are left in the mode they were in."""
    with evaluating(model):
        return Inputs.of(inputs).call(model)


def remove_checked(
    model: nn.Module,
    structure: Structure,
    keep: Tensor,
    example_inputs: ExampleInputs,
    optimizer: torch.optim.Optimizer | None = None,
) -> tuple[nn.Module, float]:
    """`remove`, and the largest difference between the outputs of the masked and the removed network on `example_inputs`.

    In eval mode, over all tensors of the output; NaN where an output is NaN or changes its shape.
    """
    inputs = Inputs.of(example_inputs)
    reference = _in_float(model, inputs)
    with masked(reference, structure, keep):
        expected = precisely(reference, inputs)
    model = remove(model, structure, keep, optimizer)
    return model, outputs.difference(expected, precisely(model, inputs)).absolute


def precisely(model: nn.Module, inputs: Inputs) -> Any:
    """`evaluate`, of a network in half precision in float32 where it can: its rounding would hide what is to be seen."""
    model = _in_float(model, inputs)
    wide = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32) not in _HALF
    return evaluate(model, inputs.map(lambda t: t.float() if t.dtype in _HALF else t) if wide else inputs)


_HALF = (torch.float16, torch.bfloat16)


def _in_float(model: nn.Module, inputs: Inputs) -> nn.Module:
    """A copy in float32 of a network in half precision, if it runs; `model` itself where it is not in half precision."""
    if not any(p.dtype in _HALF for p in model.parameters()):
        return model
    wide = copy_of(model).float()
    try:
        evaluate(wide, inputs.map(lambda t: t.float() if t.dtype in _HALF else t))
    except Exception:  # a forward that insists on a type
        return model
    return wide
