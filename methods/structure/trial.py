"""Trying out removal on a randomised copy of the network, so that nothing is offered that would change what it computes.

Tracing guesses how channels are coupled; an operation it misread (a reshape, a constant of fixed size, a function that
mixes channels) shows here, as an exception or as a difference between the masked and the removed network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from greenprune.methods.structure import outputs
from greenprune.methods.structure.copying import copy_of
from greenprune.methods.structure.inputs import Inputs, first_argument
from greenprune.methods.structure.macs import COUNTED
from greenprune.methods.structure.modes import as_in_training
from greenprune.methods.structure.surgery import evaluate, masked, remove
from greenprune.methods.structure.units import BATCH_NORMS, Structure
from torch import Tensor, nn

_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Largest difference relative to the largest logit; a wrong removal is off by orders more than rounding."""


def verify(model: nn.Module, structure: Structure, inputs: Inputs) -> tuple[set[str], dict[str, str], dict[str, str]]:
    """What of `structure` holds when tried.

    Args:
        model: in eval mode; left as it was.
        inputs: example inputs.

    Returns:
        the layers that have to mask their input; group name -> reason; end of a branch -> reason.
    """
    if not structure.units:
        return set(), {}, {}
    with torch.random.fork_rng(devices=[]):
        trial = _Trial(model, structure, inputs)
        leaky = trial.leaks()
        structure = trial.structure = replace(
            structure, layers={n: replace(layer, masks_input=n in leaky) for n, layer in structure.layers.items()}
        )
        names = [g.name for g in structure.groups]
        bad_groups = _failing(names, lambda some: trial.difference(trial.without_groups(some)))
        ends = [b.end for b in structure.branches]
        bad_branches: dict[str, str] = {}
        for some in (ends, ends[::2], ends[1::2]):  # with their neighbours and without
            left = [end for end in some if end not in bad_branches]
            bad_branches |= _failing(left, lambda these: trial.difference(trial.without_branches(these)))
    return leaky, bad_groups, bad_branches


def _failing(names: Sequence[str], attempt: Callable[[Sequence[str]], str | None]) -> dict[str, str]:
    """The names with which `attempt` fails, and why: all at once, then halves of what failed."""
    why = attempt(names) if names else None
    if why is None:
        return {}
    if len(names) == 1:
        return {names[0]: why}
    middle = len(names) // 2
    bad = _failing(names[:middle], attempt) | _failing(names[middle:], attempt)
    good = [n for n in names if n not in bad]
    why = attempt(good) if good else None
    return bad if why is None else bad | dict.fromkeys(good, f"together with others: {why}")


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
        self._chosen = torch.ones(structure.units, dtype=torch.bool)
        for group in structure.groups:
            closed = torch.randperm(group.width, generator=self._generator)[: group.width // 2]
            self._chosen[group.start + closed] = False

    def without_groups(self, names: Sequence[str]) -> Tensor:
        """(U,) bool: half of the units of the named groups closed."""
        keep = torch.ones(self.structure.units, dtype=torch.bool)
        for group in self.structure.groups:
            if group.name in names:
                keep[group.units] = self._chosen[group.units]
        return keep

    def without_branches(self, ends: Sequence[str]) -> Tensor:
        keep = torch.ones(self.structure.units, dtype=torch.bool)
        for branch in self.structure.branches:
            keep[branch.unit] = branch.end not in ends
        return keep

    def leaks(self) -> set[str]:
        """Layers to which a closed channel arrives as something else than zero."""
        modules = dict(self._model.named_modules())
        padded = torch.cat([self._chosen, torch.ones(1, dtype=torch.bool)])
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
            with masked(self._model, self.structure, self._chosen):
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
            got = self._outputs(remove(copy_of(self._model), self.structure, keep))
        except Exception as error:
            why = str(error).strip().splitlines()
            return f"the network does not run without them ({type(error).__name__}: {why[0] if why else ''})"
        compared = outputs.difference(expected, got)
        if compared.reason is not None:
            return f"{compared.reason} without them"
        dtypes = [t.dtype for t in outputs.tensors(got) if t.is_floating_point()]
        if compared.relative <= max((_TOLERANCE.get(dtype, 1e-3) for dtype in dtypes), default=0.0):
            return None
        off = compared.relative
        return f"removing them is not masking them: the output differs by {off:.1%}, so something mixes their values"


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
        if parameter.is_floating_point() and parameter.numel() and bool((parameter == parameter.flatten()[0]).all()):
            uniform(parameter, 0.5, 1.0)
