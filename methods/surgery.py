"""Physical removal: smaller weights, statistics and optimizer state, and residual branches that are gone.

The result is the network's own modules with fewer channels. Where a residual branch is removed, the module that held it
is replaced by its torch.fx trace without the branch (a plain `nn.Module` with generated forward code).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.fx
from torch import Tensor, nn

from methods.macs import COUNTED
from methods.structure import BATCH_NORMS, Branch, Layer, Structure, branch_nodes, is_depthwise, node_ancestors


def remove(
    model: nn.Module, structure: Structure, keep: Tensor, optimizer: torch.optim.Optimizer | None = None
) -> nn.Module:
    """Cut every unit that `keep` closes out of `model`, in place.

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
    for layer in structure.layers.values():
        _cut_layer(modules[layer.name], padded[layer.out_units], padded[layer.in_units], optimizer)
    before = list(model.parameters())  # after the cut, which replaced them
    for branch in structure.branches:
        if not keep[branch.unit]:
            model = remove_branch(model, branch)
    if optimizer is not None:
        left = {id(p) for p in model.parameters()}
        forget(optimizer, [p for p in before if id(p) not in left])
    return model


def _cut_layer(module: nn.Module, keep_out: Tensor, keep_in: Tensor, optimizer: torch.optim.Optimizer | None) -> None:
    if keep_out.all() and keep_in.all():
        return
    rows, columns = keep_out.nonzero().flatten(), keep_in.nonzero().flatten()
    if isinstance(module, BATCH_NORMS):
        for name in ("weight", "bias"):
            _cut_parameter(module, name, {0: rows}, optimizer)
        for name in ("running_mean", "running_var"):
            buffer = getattr(module, name)
            if buffer is not None:
                setattr(module, name, _take(buffer, {0: rows}))
        module.num_features = len(rows)
        return
    if is_depthwise(module):
        _cut_parameter(module, "weight", {0: rows}, optimizer)
        module.groups = len(rows)  # type: ignore[assignment]
    else:
        _cut_parameter(module, "weight", {0: rows, 1: columns}, optimizer)
    _cut_parameter(module, "bias", {0: rows}, optimizer)
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = len(rows), len(columns)
    else:
        module.out_channels, module.in_channels = len(rows), len(columns)  # type: ignore[assignment]


def _take(tensor: Tensor, index: dict[int, Tensor]) -> Tensor:
    """The chosen entries along each dimension, in the tensor's own memory format."""
    result = tensor.detach()
    for dim, kept in index.items():
        result = result.index_select(dim, kept.to(tensor.device))
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return result.contiguous(memory_format=torch.channels_last)
    return result.contiguous()


def _cut_parameter(
    module: nn.Module, name: str, index: dict[int, Tensor], optimizer: torch.optim.Optimizer | None
) -> None:
    old = getattr(module, name)
    if old is None:
        return
    new = nn.Parameter(_take(old, index), requires_grad=old.requires_grad)
    setattr(module, name, new)
    if optimizer is None:
        return
    for group in optimizer.param_groups:
        group["params"] = [new if p is old else p for p in group["params"]]
    if old in optimizer.state:
        state = optimizer.state.pop(old)
        optimizer.state[new] = {
            key: _take(value, index) if isinstance(value, Tensor) and value.shape == old.shape else value
            for key, value in state.items()
        }


def cut_rows(module: nn.Linear, rows: Tensor, optimizer: torch.optim.Optimizer | None) -> None:
    """Keep the outputs `rows` (indices) of a linear layer, in place, with the optimizer's state for them."""
    _cut_parameter(module, "weight", {0: rows}, optimizer)
    _cut_parameter(module, "bias", {0: rows}, optimizer)
    module.out_features = len(rows)


def forget(optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Take `parameters` and their state out of `optimizer`; groups stay (maybe empty), and so does what else they hold."""
    gone = {id(p) for p in parameters}
    for group in optimizer.param_groups:
        for p in group["params"]:
            if id(p) in gone:
                optimizer.state.pop(p, None)
        group["params"] = [p for p in group["params"] if id(p) not in gone]


def remove_branch(model: nn.Module, branch: Branch) -> nn.Module:
    """Take one residual branch out of `model`, in place; returns `model` or its replacement (see `remove`)."""
    holder = model.get_submodule(branch.name)
    graph = torch.fx.symbolic_trace(holder).graph
    prefix = f"{branch.name}." if branch.name else ""
    ancestors = node_ancestors(graph)
    for node in graph.nodes:
        inside = branch_nodes(node, ancestors)
        if inside is not None and branch.end.removeprefix(prefix) in [n.target for n in inside]:
            shortcut = next(n for n in node.all_input_nodes if n not in inside)
            node.replace_all_uses_with(shortcut)
            break
    else:
        raise ValueError(f"no residual branch that ends in {branch.end} was found in {branch.name or 'the network'}")
    graph.eliminate_dead_code()
    replacement = torch.fx.GraphModule(holder, graph, class_name=type(holder).__name__)
    _in_order_of(replacement, holder)
    for module in replacement.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]  # it would now overwrite the block's own input
    if not branch.name:
        return replacement
    parent, _, leaf = branch.name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, replacement)
    return model


def _in_order_of(model: nn.Module, original: nn.Module) -> None:
    """Register the submodules of `model` in the order of `original`: torch.fx uses the order of execution, and an
    optimizer's stored state finds its parameters by their order alone."""
    if model is original:
        return
    order = {name: i for i, name in enumerate(original._modules)}
    model._modules = dict(sorted(model._modules.items(), key=lambda item: order.get(item[0], len(order))))
    for name, child in model._modules.items():
        if child is not None and original._modules.get(name) is not None:
            _in_order_of(child, original._modules[name])  # type: ignore[arg-type]


@contextmanager
def masked(model: nn.Module, structure: Structure, keep: Tensor) -> Iterator[nn.Module]:
    """`model` with every closed unit multiplied by zero but nothing removed: the reference that removal must equal."""
    padded = torch.cat([keep.cpu(), torch.ones(1, dtype=torch.bool)])
    modules = dict(model.named_modules())
    ends = {b.end: bool(keep[b.unit]) for b in structure.branches}

    def mask_output(layer: Layer) -> torch.utils.hooks.RemovableHandle:
        mask = padded[layer.out_units].float() * float(ends.get(layer.name, True))
        module = modules[layer.name]

        def multiply(_: nn.Module, __: object, output: Tensor) -> Tensor:
            shape = (-1,) if isinstance(module, nn.Linear) else (-1, *(1 for _ in output.shape[2:]))
            return output * mask.to(output).view(shape)

        return module.register_forward_hook(multiply)

    handles = [mask_output(layer) for layer in structure.layers.values()]
    try:
        yield model
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def evaluate(model: nn.Module, inputs: Tensor) -> Tensor:
    """Logits in eval mode; the modules are left in the mode they were in."""
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        return model(inputs)
    finally:
        for module, mode in modes:
            module.training = mode


def remove_checked(
    model: nn.Module,
    structure: Structure,
    keep: Tensor,
    example_inputs: Tensor,
    optimizer: torch.optim.Optimizer | None = None,
) -> tuple[nn.Module, float]:
    """`remove`, and max |delta logit| between the masked and the removed network on `example_inputs`, in eval mode."""
    with masked(model, structure, keep):
        expected = evaluate(model, example_inputs)
    model = remove(model, structure, keep, optimizer)
    return model, float((evaluate(model, example_inputs) - expected).abs().max())


def resize(model: nn.Module, structure: Structure, tensors: dict[str, Tensor]) -> nn.Module:
    """Bring the dense `model` into the shape of the pruned network whose state dict is `tensors`, and load it.

    Works for the result of any structural method, whoever made it: widths are read off the tensors, and a residual branch
    is gone when none of its tensors is there.

    Raises:
        ValueError: `tensors` do not fit `model`, even after resizing.
    """
    for branch in structure.branches:
        if not any(key.startswith(f"{name}.") for name in branch.modules for key in tensors):
            model = remove_branch(model, branch)
    for name, module in model.named_modules():
        weight = tensors.get(f"{name}.weight")
        if weight is None or not isinstance(module, (*COUNTED, *BATCH_NORMS)) or weight.shape == module.weight.shape:  # type: ignore[union-attr]
            continue
        depthwise = is_depthwise(module)
        for key in ("weight", "bias", "running_mean", "running_var"):
            tensor = tensors.get(f"{name}.{key}")
            if tensor is None:
                continue
            empty = torch.empty_like(tensor)
            setattr(module, key, nn.Parameter(empty) if key in ("weight", "bias") else empty)
        if isinstance(module, BATCH_NORMS):
            module.num_features = len(weight)
        elif isinstance(module, nn.Linear):
            module.out_features, module.in_features = weight.shape
        else:
            module.out_channels = len(weight)  # type: ignore[assignment]
            module.groups = len(weight) if depthwise else module.groups
            module.in_channels = len(weight) if depthwise else weight.shape[1] * module.groups  # type: ignore[operator, assignment]
    try:
        model.load_state_dict(tensors)
    except RuntimeError as e:
        raise ValueError(f"the stored tensors do not fit this network: {e}") from None
    return model
