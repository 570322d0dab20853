"""Filter pruning by weight norm: train, remove the smallest filters, fine-tune (Li et al. 2017, arXiv 1608.08710)."""

from __future__ import annotations

from typing import ClassVar

import torch
from greenprune.methods.base import Method, Phase, Skip, step_of
from greenprune.methods.options.base import MethodOptions
from greenprune.methods.options.magnitude import MagnitudeOptions
from greenprune.methods.structure.inputs import ExampleInputs
from greenprune.methods.structure.slot import Slot
from greenprune.methods.structure.trace import trace
from greenprune.methods.structure.units import Structure
from greenprune.methods.structure.weights import sides
from torch import Tensor, nn


class Magnitude(Method):
    """Trains the dense network, removes whole filters of smallest norm at one stroke, fine-tunes what is left.

    Training and fine-tuning share the samples that any other method gets. Coupled filters (a residual stream) are ranked
    by the sum of their norms.
    """

    name = "magnitude"
    source = "Li et al. 2017, arXiv 1608.08710"
    Options = MagnitudeOptions
    tuning: ClassVar = {"train_share": (0.4, 0.5, 0.6, 0.7, 0.8), "fine_tune_peak": (0.1, 0.2, 0.5, 1.0)}

    @classmethod
    def phases(cls, options: MethodOptions) -> tuple[Phase, ...]:
        assert isinstance(options, MagnitudeOptions)
        return (
            Phase("train", options.train_share, peak=1.0),
            Phase("fine-tune", 1.0 - options.train_share, peak=options.fine_tune_peak),
        )

    def prepare(self, model: nn.Module, example_inputs: ExampleInputs) -> nn.Module:
        self._structure = trace(model, example_inputs)
        if not self._structure.groups:
            raise Skip("no channels of this network can be removed")
        self._removable = self._structure.channel_units
        self.check_reachable(model, self._structure, self._removable)
        self._network = Slot(model, self._structure)
        self._example_inputs = example_inputs
        self._cut_at = max(1, step_of(self.options.train_share, self.steps))
        return self._network

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().after_step(optimizer)
        if self.step == self._cut_at:
            scores = filter_scores(self._network.model, self._structure, self.options.norm, self.options.scope)
            keep = self.select(self._network.model, self._structure, scores, self._removable)
            self.masked_max_abs_diff = self._network.cut(keep, self._example_inputs, optimizer)

    def finish(self) -> nn.Module:
        return self._network.model


@torch.no_grad()
def filter_scores(model: nn.Module, structure: Structure, norm: str, scope: str) -> Tensor:
    """(U,) score of every channel unit, to be removed in ascending order; branches are never removed (infinite score).

    scope "global": norm divided by the mean norm of its group, so that layers of different fan-in can be compared.
    scope "layer": rank within the group, from 0 to 1.
    """
    modules = dict(model.named_modules())
    scores = torch.full((structure.units,), float("inf"))
    total = torch.zeros(structure.units + 1)
    for side in sides(model, structure):
        if side.writes and side.weight(modules).ndim > 1:
            total.index_add_(0, side.units, side.norms(modules, 1 if norm == "l1" else 2))
    for group in structure.groups:
        own = total[group.units]
        if scope == "layer":
            own = own.argsort(stable=True).argsort(stable=True) / group.width
        else:
            own = own / own.mean().clamp_min(1e-12)
        scores[group.units] = own
    return scores
