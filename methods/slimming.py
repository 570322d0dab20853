"""Network slimming: L1 on the scales of batch norm, a global threshold, fine-tuning (Liu et al. 2017, arXiv 1708.06519)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from greenprune.methods.base import Method, Phase, Skip, step_of
from greenprune.methods.options.base import MethodOptions
from greenprune.methods.options.slimming import SlimmingOptions
from greenprune.methods.structure.inputs import ExampleInputs
from greenprune.methods.structure.slot import Slot
from greenprune.methods.structure.trace import trace
from greenprune.methods.structure.units import BATCH_NORMS, FIXED, Structure
from torch import Tensor, nn

TRAVEL_PER_STEP = 0.5
"""How far SGD moves a parameter per step and unit of gradient: a mean learning rate of 0.05, momentum 0.9."""

BINS = 40


class Slimming(Method):
    """Trains with a sparsity penalty on the scales γ of batch norm, removes the channels of smallest |γ|, fine-tunes.

    The penalty is a subgradient, strength · sign(γ), added after backward; γ has no weight decay besides. Channels that
    a residual stream couples are ranked by the mean |γ| of their norms.
    """

    name = "slimming"
    source = "Liu et al. 2017, arXiv 1708.06519"
    Options = SlimmingOptions
    tuning: ClassVar = {
        "drift": (0.1, 0.2, 0.4, 0.8, 1.6),
        "train_share": (0.5, 0.6, 0.7),
        "fine_tune_peak": (0.1, 0.2, 0.5),
    }

    @classmethod
    def phases(cls, options: MethodOptions) -> tuple[Phase, ...]:
        assert isinstance(options, SlimmingOptions)
        return (
            Phase("sparsify", options.train_share, peak=1.0),
            Phase("fine-tune", 1.0 - options.train_share, peak=options.fine_tune_peak),
        )

    def prepare(self, model: nn.Module, example_inputs: ExampleInputs) -> nn.Module:
        self._structure = trace(model, example_inputs)
        self._removable = normed_units(model, self._structure)
        if not self._removable.any():
            raise Skip("no removable channel of this network is followed by a batch norm with a scale")
        self.check_reachable(model, self._structure, self._removable)
        with torch.no_grad():
            for scale in scales(model):
                if (scale == scale[0]).all():  # what was trained before knows its scales
                    scale.mul_(self.options.initial_scale)
        self._cut_at = max(1, step_of(self.options.train_share, self.steps))
        self.strength = max(self.options.strength, self.options.drift / (TRAVEL_PER_STEP * self._cut_at))
        self._network = Slot(model, self._structure)
        self._example_inputs = example_inputs
        self._histogram: dict[str, Any] = {}
        return self._network

    def param_groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """The scales apart, without weight decay."""
        own = scales(network)
        ids = {id(p) for p in own}
        rest = [p for p in network.parameters() if id(p) not in ids]
        return [{"params": rest}, {"params": own, "weight_decay": 0.0}]

    @torch.no_grad()
    def after_backward(self) -> None:
        if self.step < self._cut_at:
            for scale in scales(self._network):
                if scale.grad is not None:
                    scale.grad.add_(scale.sign(), alpha=self.strength)

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().after_step(optimizer)
        if self.step == self._cut_at:
            model = self._network.model
            scores = scale_scores(model, self._structure)
            self._histogram = histogram(scores[self._removable])
            keep = self.select(model, self._structure, scores, self._removable)
            self.masked_max_abs_diff = self._network.cut(keep, self._example_inputs, optimizer)

    def finish(self) -> nn.Module:
        return self._network.model

    def history(self) -> dict[str, Any]:
        """The histogram of |γ| of the removable channels when they were ranked, and the strength that acted."""
        return {"strength": self.strength, "scale_histogram": self._histogram}


def scales(model: nn.Module) -> list[nn.Parameter]:
    """γ of every batch norm that has one."""
    return [m.weight for m in model.modules() if isinstance(m, BATCH_NORMS) and m.weight is not None]


def _normed(model: nn.Module, structure: Structure) -> list[tuple[nn.Module, Tensor]]:
    """Each batch norm with a scale, and the (C,) units of its channels."""
    modules = dict(model.named_modules())
    found = [(modules[name], layer.out_units) for name, layer in structure.layers.items()]
    return [(m, units) for m, units in found if isinstance(m, BATCH_NORMS) and m.weight is not None]


def normed_units(model: nn.Module, structure: Structure) -> Tensor:
    """(U,) bool: the channel units that a batch norm scales."""
    result = torch.zeros(structure.units, dtype=torch.bool)
    for _, units in _normed(model, structure):
        result[units[units != FIXED]] = True
    return result


@torch.no_grad()
def scale_scores(model: nn.Module, structure: Structure) -> Tensor:
    """(U,) mean |γ| of each unit over the norms that scale it; infinite for units without one (they stay)."""
    total = torch.zeros(structure.units)
    count = torch.zeros(structure.units)
    for norm, units in _normed(model, structure):
        known = units != FIXED
        total.index_add_(0, units[known], norm.weight.detach().float().abs().cpu()[known])  # type: ignore[operator]
        count.index_add_(0, units[known], torch.ones(int(known.sum())))
    return torch.where(count > 0, total / count.clamp_min(1), float("inf"))


def histogram(values: Tensor) -> dict[str, Any]:
    """Edges and counts of `values` >= 0 in equal bins from 0 to the largest."""
    top = max(float(values.max()), 1e-6)
    counts = torch.histc(values, bins=BINS, min=0.0, max=top)
    return {"edges": [round(top * i / BINS, 6) for i in range(BINS + 1)], "counts": [int(n) for n in counts]}
