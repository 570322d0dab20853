"""Group-norm sparsity, then removal: DepGraph, with the regulariser and the importance of its authors' Torch-Pruning.

Fang et al. 2023, "DepGraph: Towards Any Structural Pruning" (arXiv 2301.12900), the variant with sparsity learning
("full" in its tables). Settings of the authors' CIFAR script (reproduce/main.py of Torch-Pruning): reg 5e-4, group L2
norm divided by its maximum, global ranking.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from greenprune.methods.base import Method, Phase, Skip, step_of
from greenprune.methods.options.base import MethodOptions
from greenprune.methods.options.depgraph import DepGraphOptions
from greenprune.methods.structure.inputs import ExampleInputs
from greenprune.methods.structure.slot import Slot
from greenprune.methods.structure.trace import trace
from greenprune.methods.structure.units import Structure
from greenprune.methods.structure.weights import sides
from torch import Tensor, nn


class DepGraph(Method):
    """Trains, pulls the groups of coupled parameters towards 0 by their importance, removes the least important.

    The method has no MAC target. So its importance ranks, and `budget.select` goes down the ranking until the budget
    is met exactly.
    """

    name = "depgraph"
    source = "Fang et al. 2023, arXiv 2301.12900"
    Options = DepGraphOptions
    tuning: ClassVar = {
        "strength": (1e-4, 5e-4, 2e-3, 1e-2),
        "train_share": (0.2, 0.3, 0.4),
        "sparsify_share": (0.2, 0.3, 0.4),
        "fine_tune_peak": (0.1, 0.2, 0.5),
    }
    made_by_prepare: ClassVar = frozenset({"_norms"})  # the groups of the dense network; weights are looked up in it

    @classmethod
    def phases(cls, options: MethodOptions) -> tuple[Phase, ...]:
        assert isinstance(options, DepGraphOptions)
        rest = 1.0 - options.train_share - options.sparsify_share
        if rest <= 0:
            raise ValueError("train_share + sparsify_share leave nothing for fine-tuning; allowed is a sum below 1")
        return (
            Phase("train", options.train_share, peak=1.0),
            Phase("sparsify", options.sparsify_share),
            Phase("fine-tune", rest, peak=options.fine_tune_peak),
        )

    def prepare(self, model: nn.Module, example_inputs: ExampleInputs) -> nn.Module:
        self._structure = trace(model, example_inputs)
        if not self._structure.groups:
            raise Skip("no channels of this network can be removed")
        self._network = Slot(model, self._structure)
        self._example_inputs = example_inputs
        self._begin = step_of(self.options.train_share, self.steps)
        self._cut_at = max(1, step_of(self.options.train_share + self.options.sparsify_share, self.steps))
        self._norms: GroupNorms | None = GroupNorms(model, self._structure)
        removable = self._norms.importance(model).isfinite()
        if not removable.any():
            raise Skip("every group of this network that can be removed has a single unit: there is nothing to rank")
        self.check_reachable(model, self._structure, removable)
        return self._network

    def after_backward(self) -> None:
        if self._begin <= self.step < self._cut_at and self._norms is not None:
            self._norms.pull(self._network.model, self.options.strength, 2**self.options.contrast)

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().after_step(optimizer)
        if self.step == self._cut_at:
            assert self._norms is not None
            scores = self._norms.importance(self._network.model)
            removable = scores.isfinite()
            self._norms = None  # it is of the network before the cut
            keep = self.select(self._network.model, self._structure, scores, removable)
            self.masked_max_abs_diff = self._network.cut(keep, self._example_inputs, optimizer)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if self.step >= self._cut_at:
            self._norms = None

    def finish(self) -> nn.Module:
        return self._network.model


class GroupNorms:
    """The regulariser and the importance of the groups that `structure` found, as Torch-Pruning 1.6 defines them.

    Importance (`GroupMagnitudeImportance`, p = 2): of each unit the squares of all weights that go with it, as outputs, as
    inputs and as scales of norms; their mean over the layers, divided by the largest of the group. Pull
    (`GroupNormPruner.regularize`): strength · contrast^((max - s) / (max - min)) times the weight, s being the root of the
    importance, on weights and on scales of batch norms. Convolutions of several groups take no part. Of a unit of several
    channels the importance is the mean over these.
    """

    def __init__(self, model: nn.Module, structure: Structure) -> None:
        modules = dict(model.named_modules())
        units = structure.units
        self._units = units
        self._sides = [s for s in sides(model, structure) if not s.grouped]
        self._group = torch.full((units + 1,), len(structure.groups))
        self._members, channels = torch.zeros(units + 1), torch.zeros(units + 1)
        for number, group in enumerate(structure.groups):
            if group.width > 1:  # one channel has no contrast
                self._group[group.units] = number
        self._groups = len(structure.groups) + 1
        for side in self._sides:
            self._members[side.units.unique()] += 1
            if side.writes and structure.layers[side.layer].macs:
                channels = torch.maximum(channels, torch.bincount(side.units, minlength=units + 1).float())
        self._share = self._members * channels.clamp_min(1)
        self._pulled = [
            (s, s.units.to(s.weight(modules).device))
            for s in self._sides
            if not isinstance(modules[s.layer], (nn.LayerNorm, nn.GroupNorm))
        ]

    @torch.no_grad()
    def importance(self, model: nn.Module) -> Tensor:
        """(U,) in [0, 1], of every channel unit; infinite where there is none (the unit stays)."""
        modules = dict(model.named_modules())
        total = torch.zeros(self._units + 1)
        for side in self._sides:
            total.index_add_(0, side.units, side.norms(modules, 2).square())
        own = total / self._share.clamp_min(1e-12)
        known = (self._group < self._groups - 1) & (self._members > 0)
        return torch.where(known, own / self._over_group(own, "amax"), float("inf"))[: self._units]

    @torch.no_grad()
    def pull(self, model: nn.Module, strength: float, contrast: float) -> None:
        """Add to the gradients what pulls the weights towards 0, the least important most."""
        modules = dict(model.named_modules())
        root = torch.cat([self.importance(model), torch.full((1,), float("inf"))]).sqrt()
        known = root.isfinite()
        root = root.masked_fill(~known, 0.0)
        top, low = self._over_group(root, "amax"), self._over_group(root, "amin")
        force = contrast ** ((top - root) / (top - low))
        force = torch.where(known & force.isfinite(), force, 0.0) * strength
        for side, units in self._pulled:
            weight = side.weight(modules)
            if weight.grad is not None:
                shape = [-1 if d == side.dim else 1 for d in range(weight.ndim)]
                weight.grad.add_(weight * force.to(weight)[units].view(shape))

    def _over_group(self, values: Tensor, how: Literal["amax", "amin"]) -> Tensor:
        """(U + 1,) of each unit the largest or smallest value in its group."""
        start = torch.full((self._groups,), float("-inf") if how == "amax" else float("inf"))
        return start.scatter_reduce(0, self._group, values, how)[self._group]
