"""A randomised copy of a network in one precision, in which removing is compared with masking."""

from __future__ import annotations

import math
import random
from types import MethodType
from typing import Any

import numpy as np
import torch
from greenprune.methods.structure import outputs
from greenprune.methods.structure.copying import copy_of
from greenprune.methods.structure.inputs import Inputs
from greenprune.methods.structure.modes import as_in_training
from greenprune.methods.structure.places import refers_apart
from greenprune.methods.structure.rewriting import CannotRewriteError
from greenprune.methods.structure.surgery import evaluate, masked, remove
from greenprune.methods.structure.units import Structure
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

REMEMBERED = 6
"""Outputs of masked networks: sizes in the code are fitted with the same few selections again and again."""

REPEATED = 3
"""Calls that have to agree before what a network gives in training is taken to be no matter of chance."""

NAN = "the network's output is not a number (NaN) in a trial with random weights, so nothing can be compared"


class Stage:
    """A randomised copy of the network in one precision, and what it gives where it is masked."""

    def __init__(self, model: nn.Module, inputs: Inputs, tolerance: float) -> None:
        self.model, self.inputs, self.tolerance = model, inputs, tolerance
        self.in_training = False  # whether the way that it takes in training is another, and is to be tried too
        self._apart = refers_apart(model)  # where a copy that shares its tensors would share modules, too
        self._given: dict[bytes, Any] = {}

    def outputs(self, model: nn.Module) -> Any:
        """What `model` gives, and also on the way that it takes in training where that is another."""
        found = evaluate(model, self.inputs)
        if not self.in_training:
            return found
        with torch.no_grad(), as_in_training(model):
            return [found, self.inputs.call(model)]

    def expected(self, structure: Structure, keep: Tensor) -> Any:
        """What it gives with all masked that `keep` closes. The last few are remembered: masks know nothing of sizes."""
        key = keep.numpy().tobytes()
        if key not in self._given:
            with masked(self.model, structure, keep):
                self.remember(keep, self.outputs(self.model))
        return self._given[key]

    def remember(self, keep: Tensor, given: Any) -> None:
        if len(self._given) >= REMEMBERED:
            del self._given[next(iter(self._given))]
        self._given[keep.numpy().tobytes()] = given

    def difference(self, structure: Structure, keep: Tensor) -> tuple[str | None, float]:
        """Why removing what `keep` closes is not the same as masking it, or None; and how far the outputs lie apart."""
        small = self.model
        try:
            expected = self.expected(structure, keep)
            # In training buffers may be written to, so there the copy has its own.
            small = copy_of(self.model) if self.in_training or self._apart else _sharing(self.model)
            small = remove(small, structure, keep)
            got = self.outputs(small)
        except CannotRewriteError as error:
            return f"sizes in the code would have to follow them, and {error}", 0.0
        except Exception as error:
            return _told(small, error), 0.0
        compared = outputs.difference(expected, got)
        if compared.reason is not None:
            return f"{compared.reason} without them", 0.0
        if math.isnan(compared.relative):
            return NAN, compared.relative
        if compared.relative <= self.tolerance:
            return None, compared.relative
        return (
            f"removing them is not masking them: the output differs by {compared.relative:.1g} of its size, so something "
            "mixes their values or depends on their number"
        ), compared.relative


def _told(model: nn.Module, error: Exception) -> str:
    """Why `model` does not run: in which of its modules, and what Python said."""
    names = {module: name for name, module in model.named_modules()}
    found, trace = None, error.__traceback__
    while trace is not None:
        code, values = trace.tb_frame.f_code, trace.tb_frame.f_locals
        first = values.get(code.co_varnames[0]) if code.co_argcount else None
        found = first if isinstance(first, nn.Module) and first in names else found
        trace = trace.tb_next
    where = "the network" if found is None or not names[found] else f"{names[found]} ({type(found).__name__})"
    why = (str(error).strip().splitlines() or [""])[0]
    return (
        f"{where} does not run without them: its code counts on a fixed number of them ({type(error).__name__}: {why})"
    )


class Precisions(TorchDispatchMode):
    """Notes the first operation that computes with less than double precision."""

    def __init__(self) -> None:
        super().__init__()
        self.least: str | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for result in out if isinstance(out, (list, tuple)) else (out,):
            low = isinstance(result, Tensor) and result.is_floating_point() and result.dtype != torch.float64
            if low and any(isinstance(a, Tensor) and a.is_floating_point() for a in args):
                self.least = self.least or str(func)
        return out


class Draws(TorchDispatchMode):
    """Notes whether random numbers are drawn: by an operation of PyTorch, or from the generators of Python and numpy."""

    def __init__(self) -> None:
        super().__init__()
        self.any = False

    def __enter__(self) -> Draws:
        self._before = _generators()
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self.any |= _generators() != self._before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.any |= torch.Tag.nondeterministic_seeded in func.tags and _drops(func, args, kwargs)
        return func(*args, **kwargs)


def _generators() -> tuple[Any, ...]:
    _, keys, *rest = np.random.get_state()
    return random.getstate(), np.asarray(keys).tobytes(), rest


def _drops(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """False for an operation that could drop something and drops nothing, as attention does in evaluation."""
    known = {argument.name: argument.default_value for argument in func._schema.arguments}
    known |= dict(zip(known, args, strict=False)) | kwargs
    return known.get("dropout_p") != 0.0


def _sharing(model: nn.Module, copies: dict[int, nn.Module] | None = None) -> nn.Module:
    """A copy of the modules with the same tensors: surgery replaces tensors and changes none. Far faster than deepcopy."""
    copies = {} if copies is None else copies
    if id(model) in copies:
        return copies[id(model)]
    clone = copies[id(model)] = object.__new__(model.__class__)
    own = clone.__dict__
    for name, value in model.__dict__.items():
        kind = type(value)
        if kind in _OWN:
            own[name] = value.copy()
        elif kind is MethodType and value.__self__ is model:
            own[name] = MethodType(value.__func__, clone)
        else:
            own[name] = value
    for name, child in model._modules.items():
        own["_modules"][name] = None if child is None else _sharing(child, copies)
    return clone


_OWN = (dict, list, set)
"""What a copied module has of its own; hooks are ordered dicts, and stay those of the original."""


@torch.no_grad()
def other_in_training(model: nn.Module, inputs: Inputs, usual: Any) -> bool:
    """Whether the network gives something else than `usual` on the way that it takes in training, and nothing by chance."""
    draws = Draws()
    try:
        with as_in_training(model):
            with draws:
                once = inputs.call(model)
            if draws.any or outputs.difference(usual, once).relative == 0.0:
                return False
            return all(outputs.difference(once, inputs.call(model)).relative == 0.0 for _ in range(REPEATED - 1))
    except Exception:  # it may want targets, for example
        return False


@torch.no_grad()
def randomise(model: nn.Module, generator: torch.Generator) -> None:
    """Give values to what a fresh network has at 0, 1 or a constant; they would hide what goes wrong."""

    def uniform(tensor: Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float32) * (high - low) + low)

    for module in model.modules():
        mean, var = getattr(module, "running_mean", None), getattr(module, "running_var", None)
        if not (isinstance(mean, Tensor) and isinstance(var, Tensor)):
            continue
        uniform(mean, -0.5, 0.5)
        uniform(var, 0.7, 1.4)
        for tensor in (module._buffers.get(name) for name in ("weight", "bias")):  # of a norm that is frozen
            if tensor is not None and bool((tensor == tensor.flatten()[0]).all()):
                uniform(tensor, 0.5, 1.0)
    for parameter in model.parameters():
        if not parameter.is_floating_point() or not parameter.numel():
            continue
        if bool((parameter == parameter.flatten()[0]).all()):
            uniform(parameter, 0.5, 1.0)
        if parameter.ndim >= 2:  # small weights hide a wrong scale behind a softmax that is flat anyway
            wanted = parameter[0].numel() ** -0.5
            size = float(parameter.std(unbiased=False))
            if 0.0 < size < wanted:
                parameter.mul_(wanted / size)
