"""Group-norm sparsity, then removal: DepGraph with Torch-Pruning's own regulariser and importance.

Fang et al. 2023, "DepGraph: Towards Any Structural Pruning" (arXiv 2301.12900), the variant with sparsity learning
("full" in its tables). Settings of the authors' CIFAR script (reproduce/main.py of Torch-Pruning): reg 5e-4, group L2
norm divided by its maximum, global ranking.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import torch
import torch_pruning as tp
from greenprune.methods.base import Method, MethodOptions, Phase, Skip, step_of
from greenprune.methods.options.depgraph import DepGraphOptions
from greenprune.methods.structure.inputs import ExampleInputs
from greenprune.methods.structure.macs import CONVOLUTIONS
from greenprune.methods.structure.slot import Slot
from greenprune.methods.structure.trace import FIXED, Structure, trace
from torch import Tensor, nn


class DepGraph(Method):
    """Trains, pulls the groups of coupled parameters towards 0 by their importance, removes the least important.

    Torch-Pruning has no MAC target. So its importance ranks, and `budget.select` goes down the ranking until the budget
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
    made_by_prepare: ClassVar = frozenset({"_pruner"})  # the groups of the dense network; weights are looked up in it

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
        self._cut_at = step_of(self.options.train_share + self.options.sparsify_share, self.steps)
        self._pruner: Any = make_pruner(
            model, self._structure, example_inputs, self.options.strength, self.options.contrast
        )
        removable = group_scores(self._pruner, model, self._structure).isfinite()
        if not removable.any():
            raise Skip("Torch-Pruning cannot rank any removable channels of this network")
        self.check_reachable(model, self._structure, removable)
        return self._network

    def after_backward(self) -> None:
        if self._begin <= self.step < self._cut_at:
            self._pruner.regularize(self._network.model, alpha=2**self.options.contrast)

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().after_step(optimizer)
        if self.step == self._cut_at:
            scores = group_scores(self._pruner, self._network.model, self._structure)
            removable = scores.isfinite()
            self._pruner = None  # its graph is that of the network before the cut
            keep = self.select(self._network.model, self._structure, scores, removable)
            self.masked_max_abs_diff = self._network.cut(keep, self._example_inputs, optimizer)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if self.step >= self._cut_at:
            self._pruner = None

    def finish(self) -> nn.Module:
        return self._network.model


def make_pruner(
    model: nn.Module, structure: Structure, example_inputs: ExampleInputs, strength: float, contrast: float
) -> Any:
    """Torch-Pruning's `GroupNormPruner`, used for its penalty and its importance; it removes nothing here."""
    modules = dict(model.named_modules())
    modes = [(m, m.training) for m in model.modules()]
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parameters it does not know: those groups are left out below
        pruner = tp.pruner.GroupNormPruner(
            model.eval(),
            example_inputs,
            importance=tp.importance.GroupMagnitudeImportance(p=2, normalizer="max"),
            reg=strength,
            alpha=contrast,
            global_pruning=True,
            ignored_layers=[modules[name] for name, _ in structure.fixed],
        )
    for module, mode in modes:
        module.training = mode
    producers = {modules[name] for group in structure.groups for name in group.producers if group.width > 1}
    # A group of one channel has no contrast: the regulariser would divide 0 by 0.
    pruner._groups = [
        group
        for group in pruner._groups
        if group[0].dep.target.module in producers and not any(is_grouped(item.dep.target.module) for item in group)
    ]
    return pruner


def is_grouped(module: nn.Module) -> bool:
    """A convolution of several groups with several channels each: Torch-Pruning's regulariser fails on it."""
    return isinstance(module, CONVOLUTIONS) and 1 < module.groups < module.out_channels


@torch.no_grad()
def group_scores(pruner: Any, model: nn.Module, structure: Structure) -> Tensor:
    """(U,) Torch-Pruning's importance of every channel unit; infinite where it has none (the unit stays)."""
    names = {module: name for name, module in model.named_modules()}
    scores = torch.full((structure.units,), float("inf"))
    for group in pruner._groups:
        importance = pruner.estimate_importance(group)
        units = structure.layers[names[group[0].dep.target.module]].out_units[group[0].idxs]
        if importance is not None and (units != FIXED).all():
            # Where a unit is several channels, their mean.
            count = torch.bincount(units, minlength=structure.units)
            total = torch.zeros(structure.units).index_add_(0, units, importance.detach().float().cpu())
            scores = torch.where(count > 0, total / count.clamp_min(1), scores)
    return scores
