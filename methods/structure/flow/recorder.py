"""Follow the channels through one forward pass: every operation that PyTorch dispatches passes here.

Nothing is guessed from classes or code: what counts is what was executed with the example inputs, in eval mode and, for what
was not met there, in training. So control flow, several inputs, nested outputs and functions of every kind are no matter. An
operation without a rule (`rules`) fixes the channels that enter it, and no others.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from greenprune.methods.structure import outputs
from greenprune.methods.structure.copying import copy_of
from greenprune.methods.structure.flow.elements import Elements, Ids
from greenprune.methods.structure.flow.labels import Block, Labeller, Labels
from greenprune.methods.structure.flow.lineage import Lineage
from greenprune.methods.structure.flow.products import Multiplication, Multiplications
from greenprune.methods.structure.flow.sites import SIZED, Note, note
from greenprune.methods.structure.macs import COUNTED, Owners
from greenprune.methods.structure.masking import forget_cached
from greenprune.methods.structure.modes import as_in_training, operation_by_operation
from greenprune.methods.structure.units import CHANNEL_MODULES, channel_counts, has_channels
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

OPAQUE = (nn.RNNBase,)
"""Modules that are not looked into: their parameters hold several gates in one dimension."""


class Recorder(TorchDispatchMode):
    """Labels of all tensors of a forward pass, see `labels`.

    Attributes:
        elements: the sets of channels.
        parameters: (parameter or buffer) name -> one array of elements for each of its dimensions.
        norms: name of a norm module that was called -> elements of its channels.
        products: everything that was multiplied.
        lineage: what led to what.
        users: name of a parameter or buffer -> the module at work when it was first used.
        notes: the operations that were given sizes.
    """

    def __init__(self, model: nn.Module, rules: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__()
        self.elements = Elements()
        self.labeller = Labeller(self.elements, self.where)
        self.parameters: dict[str, tuple[Ids, ...]] = {}
        self.norms: dict[str, Ids] = {}
        self.users: dict[str, str] = {}
        self.notes: list[Note] = []
        self.products: list[Multiplication] = []
        self.lineage = Lineage()
        self._owners = Owners(model)
        self._multiplications = Multiplications(self.of, self._owners.of)
        self._rules = rules
        self._modules = dict(model.named_modules())
        self._names: dict[nn.Module, str] = {}
        self._stack: list[nn.Module] = []
        self.called: set[nn.Module] = set()
        self.in_training = False
        self._labels: Any = WeakTensorKeyDictionary()
        self._fresh: Any = WeakTensorKeyDictionary()
        self._own: dict[int, str] = {}
        self._storage: dict[tuple, str] = {}
        self._tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        self._met: set[str] = set()  # the names of tensors that entered an operation
        self._held: list[Tensor] = []  # so that no other tensor is given the id of one that is known
        self._near: dict[nn.Module, list[Ids]] = {}
        # Buffers that are not stored follow from the configuration (frequencies of a rotary embedding): they stay whole.
        self._derived = {
            f"{prefix}.{leaf}" if prefix else leaf
            for prefix, module in model.named_modules()
            for leaf in module._non_persistent_buffers_set
        }
        self._widths: dict[nn.Module, set[int]] = {}  # of the own tensors of a module that is no layer
        for name, tensor in self._tensors.items():
            if tensor.is_floating_point() and not has_channels(self._holder(name)):
                self._widths.setdefault(self._holder(name), set()).update(size for size in tensor.shape if size > 1)
        self.adopt(model)

    def adopt(self, model: nn.Module) -> None:
        """Take the modules and tensors of `model`, the network or a copy of it, for those of the network."""
        self._names.update({module: name for name, module in model.named_modules()})
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            self._held.append(tensor)
            self._own[id(tensor)] = name
            if tensor.numel():
                self._storage.setdefault((tensor.data_ptr(), tuple(tensor.shape), tensor.stride()), name)

    # Where we are

    @property
    def module(self) -> nn.Module | None:
        """The innermost module at work."""
        return self._stack[-1] if self._stack else None

    def name(self, module: nn.Module) -> str:
        return self._names.get(module, type(module).__name__)

    def _original(self, module: nn.Module) -> nn.Module:
        """The network's own module where `module` is one of a copy."""
        return self._modules[self._names[module]] if module in self._names else module

    def _holder(self, name: str) -> nn.Module:
        """The module whose code uses the parameter or buffer `name`."""
        while isinstance(found := self._modules[name := name.rpartition(".")[0]], (nn.ParameterList, nn.ParameterDict)):
            pass
        return found

    def where(self) -> str:
        module = self.module
        name = "" if module is None else self.name(module)
        return f"{name} ({type(module).__name__})" if name else "the network"

    # Labels

    def of(self, tensor: Tensor) -> Labels:
        """What is known of a tensor; a parameter or buffer of the model gets elements of its own when it is first met."""
        found = self._labels.get(tensor)
        if found is not None:
            return self.labeller.tidy(found)
        name = self._name_of(tensor)
        if name is None or name in self._derived or not tensor.is_floating_point():
            return ()
        return tuple(Block((d,), ids) for d, ids in enumerate(self.dims(name)))

    def _name_of(self, tensor: Tensor) -> str | None:
        """Which parameter or buffer `tensor` is, or a view of all of it."""
        name = self._own.get(id(tensor))
        if name is None and tensor.numel():
            try:
                name = self._storage.get((tensor.data_ptr(), tuple(tensor.shape), tensor.stride()))
            except RuntimeError:  # no storage
                name = None
        return name

    def unmet(self) -> list[str]:
        """The floating-point parameters and buffers that entered no operation so far."""
        return [n for n, t in self._tensors.items() if t.is_floating_point() and t.numel() and n not in self._met]

    def fix_unmet(self) -> None:
        """Whoever uses a tensor that entered no operation may do so another time: fix what it may then be coupled to."""
        for name in self.unmet():
            for ids in self._near.get(self._holder(name), ()):
                if len(ids) in self._tensors[name].shape:
                    self.elements.fix(ids, f"they are as many as {name} is wide, which these inputs do not use")

    def dims(self, name: str) -> tuple[Ids, ...]:
        if name not in self.parameters:
            self.parameters[name] = tuple(self.elements.new(size) for size in self._tensors[name].shape)
            self.users[name] = "" if self.module is None else self._names.get(self.module, "")
        return self.parameters[name]

    def put(self, tensor: object, labels: Labels) -> None:
        if isinstance(tensor, Tensor):
            self._labels[tensor] = labels

    def is_fresh(self, tensor: Tensor) -> bool:
        """Whether a constructor made it and nothing was written to it."""
        return tensor in self._fresh and tensor not in self._labels

    def norm(self, kinds: tuple[type, ...], width: int) -> Ids | None:
        """Elements of the channels of the norm at work, if it is one of `kinds`; `width`: how many it is applied to."""
        module = self.module
        if not isinstance(module, kinds) or module not in self._names:
            return None
        name, own = self._names[module], channel_counts(module)[0]
        if width % own:
            return None
        if name not in self.norms:
            self.norms[name] = self.elements.new(own)
        return np.tile(self.norms[name], width // own)  # an instance norm takes the images of a batch for channels

    # The pass

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        named = (self._name_of(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))
        self._met.update(name for name in named if name is not None)
        out = func(*args, **kwargs)
        opaque = any(isinstance(m, OPAQUE) for m in self._stack)
        if opaque:
            self._multiplied(func, args, kwargs, out, opaque=True)
            return out
        name = func._schema.name.removeprefix("aten::")
        rule = self._rules.get(name) or self._rules.get(name.removesuffix("_"))
        if rule is None and torch.Tag.pointwise in func.tags:
            rule = self._rules["pointwise"]
        if rule is None:
            self.refuse(name, args, kwargs)
        else:
            rule(self, name, func, args, kwargs, out)
        self._note_near(tree_leaves(out))
        self._multiplied(func, args, kwargs, out, opaque=False)
        if name in SIZED:
            seen = note(self.module, name, args, out, self.of)
            if seen is not None:
                self.notes.append(replace(seen, module=self._original(seen.module)))
        return out

    def _multiplied(self, func: Any, args: Any, kwargs: Any, out: Any, *, opaque: bool) -> None:
        """Note what an operation multiplied, and what led to it. Only in eval mode: that is what a network costs."""
        if self.in_training:
            return
        module = self.module
        name = "" if module is None else self.name(module)
        products = self._multiplications(
            name, isinstance(module, COUNTED), func, args, kwargs, out, labelled=not opaque
        )
        self.products += products
        inputs = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        used = [self._own[id(t)] for t in inputs if id(t) in self._own]
        names = {name, *(p.layer for p in products if p.layer is not None)}
        changed = [a for a, spec in zip(args, func._schema.arguments, strict=False) if _is_written(spec)]
        self.lineage.note(inputs, tree_leaves((out, changed)), names, products, used)

    def refuse(self, name: str, args: Any, kwargs: Any) -> None:
        """Fix whatever channels enter the operation `name`: nobody knows what it makes of them."""
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                for block in self.of(tensor):
                    self.labeller.fix(block.ids, f"the operation {name}, which may mix channels,")

    def fresh(self, out: object) -> None:
        if isinstance(out, Tensor):
            self._fresh[out] = True

    def _enter(self, module: nn.Module, inputs: tuple) -> None:
        if isinstance(module, OPAQUE):
            self._fix_all(tree_leaves(inputs), f"{type(module).__name__} {self.name(module)} takes these channels")
        self._stack.append(self._original(module))
        self.called.add(self._stack[-1])
        self._note_near(inputs)

    def _leave(self, module: nn.Module, inputs: tuple, output: object) -> None:
        if self._stack and self._stack[-1] is self._original(module):
            self._stack.pop()
            self._note_near(tree_leaves(output))

    def _note_near(self, tensors: Sequence[object]) -> None:
        """Remember which channels the code of the module at work holds that are as many as one of its own tensors is wide."""
        module = self.module
        if module is None or module not in self._widths:
            return
        for tensor in tensors:
            for block in self.labeller.tidy(self._labels.get(tensor, ())) if isinstance(tensor, Tensor) else ():
                if len(block.dims) == 1 and len(block.ids) in self._widths[module]:
                    self._near.setdefault(module, []).append(block.ids)

    def _fix_all(self, tensors: Sequence[object], reason: str) -> None:
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                for block in self.of(tensor):
                    self.elements.fix(block.ids, reason)

    @contextmanager
    def _hooked(self) -> Iterator[None]:
        handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ]
        try:
            with operation_by_operation():
                yield
        finally:
            for handle in handles:
                handle.remove()


@torch.no_grad()
def record(
    model: nn.Module, args: tuple, kwargs: Mapping[str, Any], rules: Mapping[str, Callable[..., Any]]
) -> Recorder:
    """Run `model(*args, **kwargs)` once and return what was seen. What leaves the network is fixed.

    Where layers were not called, or tensors not used, a copy runs once more, the way that the network takes in training: there
    layers may be called (auxiliary heads) that read channels of the others, and tensors be used that are as wide (an average
    of channels, noise for each).
    """
    forget_cached(model)
    recorder = Recorder(model, rules)
    with recorder._hooked(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with recorder:
            found = outputs.tensors(model(*args, **kwargs))
        if recorder.unmet() or any(
            isinstance(m, CHANNEL_MODULES) and m not in recorder.called and f"{n}.weight" not in recorder.parameters
            for n, m in model.named_modules()
        ):
            recorder.in_training = True
            with contextlib.suppress(Exception):  # it may want targets, for example
                found += _found_in_training(recorder, copy_of(model), args, kwargs)
            recorder._stack.clear()
    recorder._fix_all(found, "it is the network's output")
    recorder.fix_unmet()
    recorder.labeller.settle()
    for product in recorder.products:
        product.settle(recorder.labeller)
    return recorder


def _found_in_training(recorder: Recorder, copy: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> list[Tensor]:
    """What a copy of the network returns in training; besides modules made of others those that own unmet tensors train."""
    recorder.adopt(copy)
    devices = {t.device for t in (*copy.parameters(), *copy.buffers()) if t.is_cuda}
    with as_in_training(copy), torch.random.fork_rng(devices=devices):
        for name in recorder.unmet():
            owner = copy.get_submodule(name.rpartition(".")[0])
            owner.training |= not isinstance(owner, _NormBase)
        with recorder:
            return outputs.tensors(copy(*args, **kwargs))


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write
