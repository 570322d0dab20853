"""What one pass through a network shows: which modules run, on what, and at what cost."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from greenprune.methods.structure import outputs
from greenprune.methods.structure.inputs import Inputs, first_argument
from greenprune.methods.structure.macs import OperationCounter
from greenprune.methods.structure.modes import as_in_training, as_they_were
from greenprune.methods.structure.units import has_channels, is_attention, is_writer
from torch import nn


@dataclass
class Observed:
    """What one forward pass showed, by module name in the order of execution."""

    macs: dict[str, int] = field(default_factory=dict)  # for one image
    calls: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, torch.Size] = field(default_factory=dict)  # of the first input
    others: dict[tuple[str, str], int] = field(default_factory=dict)  # of products without a layer, for one image
    uncounted: list[tuple[str, str]] = field(default_factory=list)
    owners: dict[str, str] = field(default_factory=dict)  # of layers not called: the module that uses their weights

    def order(self) -> dict[str, int]:
        """When each module ran, and each layer whose weights a module uses with that module."""
        order = {name: i for i, name in enumerate(self.calls)}
        return order | {name: order.get(owner, len(order)) for name, owner in self.owners.items()}


@torch.no_grad()
def observe(model: nn.Module, inputs: Inputs) -> Observed:
    """One pass of `inputs`. Raises ValueError: the network does not run on them, or returns no tensor."""
    run = Observed()
    batch = inputs.batch_size

    def note(name: str, module: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        run.calls[name] = run.calls.get(name, 0) + 1
        x = first_argument(args, kwargs)
        if x is not None:
            run.shapes.setdefault(name, x.shape)

    handles = [
        module.register_forward_hook(lambda m, x, k, y, name=name: note(name, m, x, k, y), with_kwargs=True)
        for name, module in model.named_modules()
    ]
    try:
        with OperationCounter(model) as counter:
            output = inputs.call(model)
    except Exception as error:
        raise ValueError(
            f"the network does not run on example inputs of {inputs.describe()} ({type(error).__name__}: {error})"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    if not outputs.tensors(output):
        raise ValueError(
            f"the network returns a {type(output).__name__} without a tensor in it: nothing can be compared"
        )
    run.macs = {name: macs // batch for name, macs in counter.counted.layers.items()}
    run.others = {key: macs // batch for key, macs in counter.counted.others.items()}
    run.uncounted = list(counter.counted.uncounted)
    return run


@torch.no_grad()
def called_in_training(model: nn.Module, inputs: Inputs) -> dict[str, int]:
    """The modules that are called on the way that the network takes in training; none where it does not run."""
    calls: dict[str, int] = {}
    handles = [
        module.register_forward_hook(lambda m, x, y, name=name: calls.update({name: 1}))
        for name, module in model.named_modules()
    ]
    try:
        with as_in_training(model):
            inputs.call(model)
    except Exception:  # it may want targets, for example
        return {}
    finally:
        for handle in handles:
            handle.remove()
    return calls


def owners_of(model: nn.Module, calls: dict[str, int], users: dict[str, str]) -> dict[str, str]:
    """Layers whose weights are used by functions -> the module at work there."""
    owners = {}
    for name, module in model.named_modules():
        if is_attention(module):
            owners[name] = name
        elif is_writer(module) and name not in calls and users.get(f"{name}.weight", name) != name:
            owners[name] = users[f"{name}.weight"]
    return owners


def not_called(model: nn.Module, run: Observed, calls: dict[str, int]) -> list[str]:
    """Layers that are not among `calls`, and whose weights nothing else uses."""
    return [n for n, m in model.named_modules() if has_channels(m) and n not in calls and n not in run.owners]


def may_be_called(model: nn.Module, names: list[str]) -> bool:
    """Whether modules that did not run in eval mode could run otherwise: in training, or on other data."""
    with as_they_were(model):
        model.train()
        try:
            graph = torch.fx.symbolic_trace(model).graph
        except Exception:  # control flow that depends on the data
            return True
    return any(node.op == "call_module" and node.target in names for node in graph.nodes)
