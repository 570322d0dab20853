"""Trying out removal on a randomised copy of the network, so that nothing is offered that would change what it computes.

Tracing guesses how channels are coupled; an operation it misread (a reshape, a constant of fixed size, a function that
mixes channels) shows here, as an exception or as a difference between the masked and the removed network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import MethodType
from typing import Any

import torch
from greenprune.methods.structure import outputs
from greenprune.methods.structure.copying import copy_of
from greenprune.methods.structure.fitting import Way, choose, shapes_of
from greenprune.methods.structure.inputs import Inputs, first_argument
from greenprune.methods.structure.macs import COUNTED
from greenprune.methods.structure.modes import as_in_training
from greenprune.methods.structure.shapes import Candidates
from greenprune.methods.structure.surgery import evaluate, masked, remove
from greenprune.methods.structure.units import BATCH_NORMS, Shapes, Structure
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

EXACT, ROUNDED = 1e-8, 1e-4
"""Largest difference relative to the largest logit, in double precision and where some of it is computed in less."""

DRAWS = 3
"""Selections that are tried, each with another share of every group."""

MOST_ATTEMPTS = 200
"""To find out which of the groups are guilty."""


@dataclass(frozen=True)
class Verdict:
    """What of a structure holds when tried.

    Attributes:
        leaky: the layers that have to mask their input.
        groups: name of a group that cannot be removed -> reason.
        branches: end of a branch that cannot be removed -> reason.
        ways: what has to be done about sizes in the code, see `fitting`.
    """

    leaky: set[str] = field(default_factory=set)
    groups: dict[str, str] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    ways: dict[str, Way] = field(default_factory=dict)


def verify(model: nn.Module, structure: Structure, candidates: Sequence[Candidates], inputs: Inputs) -> Verdict:
    """What of `structure` holds when tried.

    Args:
        model: in eval mode; left as it was.
        candidates: sizes in the code that may have to follow the channels.
        inputs: example inputs.
    """
    if not structure.units:
        return Verdict()
    with torch.random.fork_rng(devices=[]):
        trial = _Trial(model, structure, inputs)
        leaky = trial.leaks()
        structure = trial.structure = replace(
            structure, layers={n: replace(layer, masks_input=n in leaky) for n, layer in structure.layers.items()}
        )

        def attempt(shapes: tuple[Shapes, ...], names: Sequence[str]) -> str | None:
            trial.structure = replace(structure, shapes=shapes)
            return trial.difference(trial.without_groups(names))

        ways = choose(structure, candidates, attempt)
        trial.structure = replace(structure, shapes=shapes_of(candidates, ways))
        # Streams last: where two groups do not go together, the smaller one is to stay.
        names = [g.name for g in sorted(structure.groups, key=lambda g: len(g.producers) > 1)]
        bad_groups: dict[str, str] = {}
        for draw in range(DRAWS):
            trial.draw = draw
            left = [n for n in names if n not in bad_groups]
            bad_groups |= _failing(left, lambda some: trial.difference(trial.without_groups(some)))
        ends = [b.end for b in structure.branches]
        bad_branches: dict[str, str] = {}
        for some in (ends, ends[::2], ends[1::2]):  # with their neighbours and without
            left = [end for end in some if end not in bad_branches]
            bad_branches |= _failing(left, lambda these: trial.difference(trial.without_branches(these)))
        # What the code of a closed branch says of sizes still follows its channels.
        some = [n for n in names if n not in bad_groups]
        left = [end for end in ends if end not in bad_branches]
        bad_branches |= _failing(
            left, lambda these: trial.difference(trial.without_branches(these) & trial.without_groups(some))
        )
    return Verdict(leaky, bad_groups, bad_branches, ways)


def _failing(names: Sequence[str], attempt: Callable[[Sequence[str]], str | None]) -> dict[str, str]:
    """The names with which `attempt` fails, and why: all at once, then halves of what failed, beside what went well."""
    good: list[str] = []
    bad: dict[str, str] = {}
    attempts = 0

    def add(some: Sequence[str]) -> None:
        nonlocal attempts
        attempts += 1
        why = attempt([*good, *some])
        if why is None:
            good.extend(some)
        elif len(some) == 1 or attempts >= MOST_ATTEMPTS:
            bad.update(dict.fromkeys(some, why if len(some) == 1 else f"together with others: {why}"))
        else:
            middle = len(some) // 2
            add(some[:middle])
            add(some[middle:])

    if names:
        add(names)
    return bad


class _Trial:
    """A randomised copy of the network, and a random choice of half of each group's units."""

    def __init__(self, model: nn.Module, structure: Structure, inputs: Inputs) -> None:
        self.structure = structure
        self._generator = torch.Generator().manual_seed(0)
        try:  # in double precision equal means equal
            self._model, self._inputs = copy_of(model).double(), inputs.to(torch.float64)
            evaluate(self._model, self._inputs)
        except Exception:  # a device without it, or a forward that insists on a type
            self._model, self._inputs = copy_of(model).float(), inputs.to(torch.float32)
        _randomise(self._model, self._generator)
        self._in_training = _other_in_training(self._model, self._inputs)
        self._tolerance = EXACT if _in_double(self._model, self._inputs) else ROUNDED
        self.draw = 0
        self._draws = [self._selection() for _ in range(DRAWS)]

    def _selection(self) -> Tensor:
        """(U,) bool: of every group a share of its own is closed, so that no two sizes shrink alike by chance."""
        keep = torch.ones(self.structure.units, dtype=torch.bool)
        for group in self.structure.groups:
            share = 0.2 + 0.6 * float(torch.rand((), generator=self._generator))
            count = min(max(round(share * group.width), 1), group.width - 1)
            keep[group.start + torch.randperm(group.width, generator=self._generator)[:count]] = False
        return keep

    def without_groups(self, names: Sequence[str]) -> Tensor:
        """(U,) bool: some of the units of the named groups closed."""
        keep, wanted = torch.ones(self.structure.units, dtype=torch.bool), set(names)
        for group in self.structure.groups:
            if group.name in wanted:
                keep[group.units] = self._draws[self.draw][group.units]
        return keep

    def without_branches(self, ends: Sequence[str]) -> Tensor:
        keep = torch.ones(self.structure.units, dtype=torch.bool)
        for branch in self.structure.branches:
            keep[branch.unit] = branch.end not in ends
        return keep

    def leaks(self) -> set[str]:
        """Layers to which a closed channel arrives as something else than zero."""
        modules = dict(self._model.named_modules())
        padded = torch.cat([self._draws[0], torch.ones(1, dtype=torch.bool)])
        leaky: set[str] = set()

        def look(name: str, module: nn.Module, x: Tensor | None, closed: Tensor) -> None:
            if x is None:
                return
            channels = x.movedim(-1 if isinstance(module, nn.Linear) else 1, 0)[closed.to(x.device)]
            if bool((channels != 0).any()):
                leaky.add(name)

        handles = []
        for name, layer in self.structure.layers.items():
            closed = ~padded[layer.in_units]
            if isinstance(modules[name], COUNTED) and closed.any() and not layer.depthwise:
                handles.append(
                    modules[name].register_forward_pre_hook(
                        lambda m, args, kwargs, name=name, closed=closed: look(
                            name, m, first_argument(args, kwargs), closed
                        ),
                        with_kwargs=True,
                    )
                )
        try:
            with masked(self._model, self.structure, self._draws[0]):
                evaluate(self._model, self._inputs)
        except Exception:  # whoever is guilty is found by removing
            return set()
        finally:
            for handle in handles:
                handle.remove()
        return leaky

    def _outputs(self, model: nn.Module) -> Any:
        """What `model` gives, and also on the way that it takes in training where that is another."""
        found = evaluate(model, self._inputs)
        if not self._in_training:
            return found
        with torch.no_grad(), as_in_training(model):
            return [found, self._inputs.call(model)]

    def difference(self, keep: Tensor) -> str | None:
        """Why removing what `keep` closes is not the same as masking it, or None."""
        try:
            with masked(self._model, self.structure, keep):
                expected = self._outputs(self._model)
            # In training buffers may be written to, so there the copy has its own.
            clone = copy_of(self._model) if self._in_training else _sharing(self._model)
            got = self._outputs(remove(clone, self.structure, keep))
        except Exception as error:
            why = str(error).strip().splitlines()
            return f"the network does not run without them ({type(error).__name__}: {why[0] if why else ''})"
        compared = outputs.difference(expected, got)
        if compared.reason is not None:
            return f"{compared.reason} without them"
        off = compared.relative
        if off <= self._tolerance:
            return None
        return (
            f"removing them is not masking them: the output differs by {off:.1g} of its size, so something mixes their "
            "values or depends on their number"
        )


@torch.no_grad()
def _in_double(model: nn.Module, inputs: Inputs) -> bool:
    """Whether everything is computed in double precision."""
    seen = _Precisions()
    try:
        with seen:
            evaluate(model, inputs)
    except Exception:  # the user's forward; it is told elsewhere
        return False
    return seen.least is None


class _Precisions(TorchDispatchMode):
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


def _sharing(model: nn.Module, copies: dict[int, nn.Module] | None = None) -> nn.Module:
    """A copy of the modules with the same tensors: surgery replaces tensors and changes none. Far faster than deepcopy."""
    copies = {} if copies is None else copies
    if id(model) in copies:
        return copies[id(model)]
    clone = copies[id(model)] = object.__new__(model.__class__)
    own = clone.__dict__
    for name, value in model.__dict__.items():
        own[name] = copy.copy(value) if isinstance(value, (dict, list, set)) else value
    for name, child in model._modules.items():
        own["_modules"][name] = None if child is None else _sharing(child, copies)
    for name, value in model.__dict__.items():
        if isinstance(value, MethodType) and value.__self__ is model:
            own[name] = MethodType(value.__func__, clone)
    return clone


@torch.no_grad()
def _other_in_training(model: nn.Module, inputs: Inputs) -> bool:
    """Whether the network does something else on the way that it takes in training, and the same each time."""
    try:
        with as_in_training(model):
            once, twice = inputs.call(model), inputs.call(model)
        usual = evaluate(model, inputs)
    except Exception:  # it may want targets, for example
        return False
    return outputs.difference(usual, once).relative != 0.0 and outputs.difference(once, twice).relative == 0.0


@torch.no_grad()
def _randomise(model: nn.Module, generator: torch.Generator) -> None:
    """Give values to what a fresh network has at 0, 1 or a constant; they would hide what goes wrong."""

    def uniform(tensor: Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float32) * (high - low) + low)

    for module in model.modules():
        if isinstance(module, BATCH_NORMS) and module.running_mean is not None:
            uniform(module.running_mean, -0.5, 0.5)
            uniform(module.running_var, 0.7, 1.4)  # type: ignore[arg-type]
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
