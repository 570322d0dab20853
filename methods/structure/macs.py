"""One counter of multiply-accumulates for everything: every product of matrices that is executed.

Convolutions (transposed ones too), linear layers, products of activations, attention, recurrent layers: what `operations`
knows, whichever module or function asks for it. The same definition serves published-table comparisons (ResNet-20 with
option-B shortcuts: 40.8 M) and the ledger of a run, which adds up what was really executed. What cannot be counted is
listed, see `Counted.uncounted`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from greenprune.methods.structure.inputs import ExampleInputs, Inputs
from greenprune.methods.structure.modes import evaluating, set_fast_path
from greenprune.methods.structure.operations import filter_size, is_uncounted, macs_of, operation
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)
COUNTED = (*CONVOLUTIONS, nn.Linear)


def layer_macs(layer: nn.Module, inputs: Tensor, output: Tensor) -> int:
    """Multiply-accumulates of one call of a convolution or linear layer that made `output` of `inputs` (whole batch)."""
    if isinstance(layer, nn.Linear):
        return output.numel() * layer.in_features
    return (inputs if isinstance(layer, TRANSPOSED) else output).numel() * filter_size(layer.weight)  # type: ignore[arg-type]


@dataclass
class Counted:
    """Multiply-accumulates of whole batches.

    Attributes:
        layers: by the name of the convolution or linear layer whose weight was used, by its module or by a function.
        others: by (module at work, operation): products of activations, and of parameters that no such layer holds.
        uncounted: (operation, module at work) that may multiply and cannot be counted.
    """

    layers: dict[str, int] = field(default_factory=dict)
    others: dict[tuple[str, str], int] = field(default_factory=dict)
    uncounted: dict[tuple[str, str], None] = field(default_factory=dict)  # an ordered set

    @property
    def total(self) -> int:
        return sum(self.layers.values()) + sum(self.others.values())


class Watch(TorchDispatchMode):
    """Shows every operation that is executed while it is open to `note(func, args, kwargs, out)`."""

    def __init__(self, note: Callable[[Any, Any, dict[str, Any], Any], None]) -> None:
        super().__init__()
        self._note = note

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.name()
        if "::" in name and torch._C._dispatch_has_kernel_for_dispatch_key(name, "CompositeImplicitAutograd"):
            with self:  # it is made of others, and arrives whole under torch.inference_mode
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        self._note(func, args, kwargs, out)
        return out


class OperationCounter:
    """Counts every operation executed while open: exact, and some microseconds for each of them.

        with OperationCounter(network) as counter:
            network(images)
        counter.counted.total

    Args:
        model: whose modules and layers things are named after; None: after their types.
    """

    def __init__(self, model: nn.Module | None = None) -> None:
        self.counted = Counted()
        self._names = {} if model is None else {module: name for name, module in model.named_modules()}
        self._owners = Owners(model)
        self._stack: list[nn.Module] = []
        self._watch = Watch(self._note)

    def __enter__(self) -> OperationCounter:
        self._handles = [
            register_module_forward_pre_hook(self._begin),
            register_module_forward_hook(self._end, always_call=True),
        ]
        self._fast = set_fast_path(False)
        self._watch.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._watch.__exit__(*error)
        set_fast_path(self._fast)
        for handle in self._handles:
            handle.remove()

    def _begin(self, module: nn.Module, inputs: tuple) -> None:
        self._stack.append(module)

    def _end(self, module: nn.Module, inputs: tuple, output: object) -> None:
        if module in self._stack:  # what failed above it ends with it
            while self._stack.pop() is not module:
                pass
        said = getattr(module, "executed_macs", 0)
        if said:
            self._add_other(self._name(module), "said by the module", said)

    def _note(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        module = self._stack[-1] if self._stack else None
        if hasattr(module, "executed_macs"):  # it says itself what it executes
            return
        macs = macs_of(func, args, kwargs, out)
        name = "" if module is None else self._name(module)
        if macs is None:
            if is_uncounted(func):
                self.counted.uncounted[operation(func), name] = None
            return
        layer = self._owners.of((args, kwargs))
        if layer is None and isinstance(module, COUNTED):
            layer = name
        if layer is None:
            self._add_other(name, operation(func), macs)
        else:
            self.counted.layers[layer] = self.counted.layers.get(layer, 0) + macs

    def _add_other(self, name: str, what: str, macs: int) -> None:
        self.counted.others[name, what] = self.counted.others.get((name, what), 0) + macs

    def _name(self, module: nn.Module) -> str:
        return self._names.get(module, type(module).__name__)


class Owners:
    """Which convolution or linear layer of `model` a weight is of, also where it arrives as a view of it."""

    def __init__(self, model: nn.Module | None) -> None:
        self._layers: dict[int, str] = {}
        for name, module in () if model is None else model.named_modules():
            weight = module._parameters.get("weight") if isinstance(module, COUNTED) else None
            if weight is not None and (address := _address(weight)):
                self._layers.setdefault(address, name)

    def of(self, arguments: Any) -> str | None:
        """Of the first weight among the arguments of an operation."""
        for tensor in tree_leaves(arguments) if self._layers else ():
            if isinstance(tensor, Tensor) and (name := self._layers.get(_address(tensor))) is not None:
                return name
        return None


def _address(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # no storage
        return 0


@torch.no_grad()
def count(model: nn.Module, example_inputs: ExampleInputs) -> Counted:
    """What one forward pass executes (whole batch), in eval mode; the modules are left in the mode they were in."""
    inputs = Inputs.of(example_inputs)
    with evaluating(model), OperationCounter(model) as counter:
        inputs.call(model)
    return counter.counted


def count_macs(model: nn.Module, example_inputs: ExampleInputs) -> int:
    """Multiply-accumulates of one forward pass of `model`, for one example of `example_inputs` (see `inputs.Inputs`).

    The model is evaluated in eval mode and left in the mode it was in.
    """
    return count(model, example_inputs).total // Inputs.of(example_inputs).batch_size


def count_params(model: nn.Module) -> int:
    """Number of parameters (weights, biases, normalisation scale and shift; no statistics)."""
    return sum(p.numel() for p in model.parameters())
