"""Trying out removal on a randomised copy of the network, so that nothing is offered that would change what it computes.

Tracing guesses how channels are coupled; an operation it misread (a reshape, a constant of fixed size, a function that
mixes channels) shows here, as an exception or as a difference between the masked and the removed network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from greenprune.methods.structure import outputs
from greenprune.methods.structure.copying import copy_of
from greenprune.methods.structure.fitting import Way, choose, shapes_of
from greenprune.methods.structure.inputs import Inputs, first_argument
from greenprune.methods.structure.macs import COUNTED
from greenprune.methods.structure.shapes import Candidates
from greenprune.methods.structure.stage import NAN, Precisions, Stage, other_in_training, randomise
from greenprune.methods.structure.surgery import evaluate, masked
from greenprune.methods.structure.units import Shapes, Structure
from torch import Tensor, nn

EXACT, ROUNDED = 1e-8, 1e-4
"""Largest difference relative to the largest logit, in double precision and where some of it is computed in less."""

NEAR = 1e-5
"""What single precision may differ by before a trial is repeated in double."""

LARGE = 100_000_000
"""Multiply-accumulates for one example from which on most trials run in single precision."""

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
        if trial.is_nan:
            return Verdict(
                groups={g.name: NAN for g in structure.groups}, branches={b.end: NAN for b in structure.branches}
            )
        leaky = trial.leaks()
        structure = trial.structure = replace(
            structure, layers={n: replace(layer, masks_input=n in leaky) for n, layer in structure.layers.items()}
        )

        def attempt(shapes: tuple[Shapes, ...], names: Sequence[str]) -> str | None:
            trial.structure = replace(structure, shapes=shapes)
            return trial.difference(trial.without_groups(names), exactly=len(names) == len(structure.groups))

        ways = choose(structure, candidates, attempt)
        trial.structure = replace(structure, shapes=shapes_of(candidates, ways))
        # Streams last: where two groups do not go together, the smaller one is to stay.
        names = [g.name for g in sorted(structure.groups, key=lambda g: len(g.producers) > 1)]
        bad_groups: dict[str, str] = {}
        for trial.draw in range(DRAWS):
            left = [n for n in names if n not in bad_groups]
            bad_groups |= _failing(left, lambda n: trial.difference(trial.without_groups(n), exactly=trial.draw == 0))
        ends = [b.end for b in structure.branches]
        bad_branches = _failing(ends, lambda e: trial.difference(trial.without_branches(e), exactly=True))
        for some in (ends[::2], ends[1::2]):  # with their neighbours, and without
            left = [end for end in some if end not in bad_branches]
            bad_branches |= _failing(left, lambda e: trial.difference(trial.without_branches(e)))
        # What the code of a closed branch says of sizes still follows its channels.
        some = [n for n in names if n not in bad_groups]
        left = [end for end in ends if end not in bad_branches]
        bad_branches |= _failing(
            left, lambda e: trial.difference(trial.without_branches(e) & trial.without_groups(some))
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
    """The network to be tried in double precision and, if it is large, in single, and a few random selections of units."""

    def __init__(self, model: nn.Module, structure: Structure, inputs: Inputs) -> None:
        self.structure = structure
        self._generator = torch.Generator().manual_seed(0)
        seen = Precisions()
        try:  # in double precision equal means equal
            self._exact = Stage(copy_of(model).double(), inputs.to(torch.float64), EXACT)
            with seen:
                evaluate(self._exact.model, self._exact.inputs)
        except Exception:  # a device without it, or a forward that insists on a type
            self._exact = Stage(copy_of(model).float(), inputs.to(torch.float32), ROUNDED)
        if seen.least is not None:
            self._exact.tolerance = ROUNDED
        randomise(self._exact.model, self._generator)
        self._quick = self._exact
        if structure.macs >= LARGE and self._exact.inputs.tensors[0].dtype != torch.float32:
            self._quick = Stage(copy_of(self._exact.model).float(), inputs.to(torch.float32), NEAR)
        try:
            usual = evaluate(self._quick.model, self._quick.inputs)
            self.is_nan = any(t.is_floating_point() and bool(t.isnan().any()) for t in outputs.tensors(usual))
            other = other_in_training(self._quick.model, self._quick.inputs, usual)
        except Exception:  # random weights were too much for it: it is told of what is removed first
            self.is_nan = other = False
        self._exact.in_training = self._quick.in_training = other
        self.draw = 0
        self._last: tuple | None = None  # what went well last
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
        model, keep = self._exact.model, self._draws[0]
        modules = dict(model.named_modules())
        padded = torch.cat([keep, torch.ones(1, dtype=torch.bool)])
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
            with masked(model, self.structure, keep):
                given = self._exact.outputs(model)
        except Exception:  # whoever is guilty is found by removing
            return set()
        finally:
            for handle in handles:
                handle.remove()
        if not leaky:
            self._exact.remember(keep, given)
        return leaky

    def difference(self, keep: Tensor, *, exactly: bool = False) -> str | None:
        """Why removing what `keep` closes is not the same as masking it, or None.

        Args:
            exactly: in double precision in any case. Else a large network is tried in single precision first, and what
                differs there by more than rounding does is tried again.
        """
        if not exactly and self._quick is not self._exact:
            why, off = self._quick.difference(self.structure, keep)
            if why is None or off == 0.0:
                return why
        shapes = [(s.module, len(s.calls), [(a.name, a.index) for a in s.attributes]) for s in self.structure.shapes]
        tried = keep.numpy().tobytes(), shapes
        if tried == self._last:  # as the sizes in the code were fitted
            return None
        why, _ = self._exact.difference(self.structure, keep)
        self._last = tried if why is None else None
        return why
