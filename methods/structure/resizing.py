"""A stored network made anew: the dense one brought into the shape of the tensors that are left of it."""

from __future__ import annotations

import torch
from greenprune.methods.structure.attention import resize_heads
from greenprune.methods.structure.macs import TRANSPOSED
from greenprune.methods.structure.remnant import TAPS, leave_remnant, stored_kind, with_remnants
from greenprune.methods.structure.shapes import follow
from greenprune.methods.structure.surgery import remove_branches, set_width
from greenprune.methods.structure.units import (
    FIXED,
    Structure,
    has_channels,
    is_attention,
    is_transposed_linear,
    is_writer,
)
from torch import Tensor, nn


def resize(model: nn.Module, structure: Structure, tensors: dict[str, Tensor]) -> nn.Module:
    """Bring the dense `model` into the shape of the pruned network whose state dict is `tensors`, and load it.

    Works for the result of any structural method, whoever made it: widths are read off the tensors, and a residual branch
    is gone when none of its tensors is there, and a remnant when those of its kernels are.

    Raises:
        ValueError: `tensors` do not fit `model`, even after resizing.
    """
    gone = [b for b in structure.branches if not any(k.startswith(f"{name}.") for name in b.modules for k in tensors)]
    model = remove_branches(model, gone)
    for kind in TAPS:
        for branch in with_remnants(structure, model, kind).branches:
            if branch.remnant is not None and stored_kind(branch.remnant.convolutions, tensors) == kind:
                leave_remnant(model, branch)
    for parameter in structure.parameters:
        tensor = tensors.get(parameter.name)
        if tensor is not None:
            owner, _, leaf = parameter.name.rpartition(".")
            module, empty = model.get_submodule(owner), torch.empty_like(tensor)
            setattr(module, leaf, empty if leaf in module._buffers else nn.Parameter(empty))
    for name, module in model.named_modules():
        if is_attention(module):
            own = {key: tensors[f"{name}.{key}"] for key in module._parameters if f"{name}.{key}" in tensors}
            if own:
                resize_heads(module, own)  # type: ignore[arg-type]
        elif has_channels(module):
            _resize_layer(module, {key: tensors.get(f"{name}.{key}") for key in _TENSORS})
    follow(model, structure.shapes, _as_many_as(structure, tensors))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as e:
        raise ValueError(f"the stored tensors do not fit this network: {e}") from None
    return model


def _as_many_as(structure: Structure, tensors: dict[str, Tensor]) -> Tensor:
    """(U + 1,) bool: some selection of units with as many of each group as `tensors` have."""
    keep = torch.ones(structure.units + 1, dtype=torch.bool)
    for group in structure.groups:
        for name in group.producers:
            layer = structure.layers[name]
            weight = tensors.get(f"{name}.weight", tensors.get(f"{name}.in_proj_weight"))
            own = (layer.out_units >= group.start) & (layer.out_units < group.start + group.width)
            if weight is None or not bool((own | (layer.out_units == FIXED)).all()):
                continue
            width = weight.shape[1 if layer.turned else 0]
            left = (width - int((~own).sum())) * group.width // int(own.sum())
            keep[group.start + max(left, 0) : group.start + group.width] = False
            break
    return keep


_TENSORS = ("weight", "bias", "running_mean", "running_var")


def _resize_layer(module: nn.Module, tensors: dict[str, Tensor | None]) -> None:
    """Give `module` the shape of `tensors` (values are loaded later)."""
    old = getattr(module, "weight", None)
    first = next((t for t in tensors.values() if t is not None), None)
    if tensors["weight"] is None and is_writer(module):
        return  # it is computed from other tensors (weight norm), and such a layer is never cut
    if first is None or (old is not None and tensors["weight"] is not None and tensors["weight"].shape == old.shape):
        return
    for key, tensor in tensors.items():
        if tensor is not None:
            empty = torch.empty_like(tensor)
            setattr(module, key, nn.Parameter(empty) if key in ("weight", "bias") else empty)
    if not is_writer(module):
        set_width(module, len(first))
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = len(first), first.shape[1]
    elif is_transposed_linear(module):
        module.nf = first.shape[1]  # type: ignore[assignment]
        if hasattr(module, "nx"):
            module.nx = first.shape[0]  # type: ignore[assignment]
    else:
        transposed = isinstance(module, TRANSPOSED)
        if module.groups > 1:  # type: ignore[operator]
            side = module.in_channels if transposed else module.out_channels
            module.groups = len(first) // (side // module.groups)  # type: ignore[assignment, operator]
        widths = len(first), first.shape[1] * module.groups  # type: ignore[operator]
        module.out_channels, module.in_channels = widths[::-1] if transposed else widths  # type: ignore[assignment]
