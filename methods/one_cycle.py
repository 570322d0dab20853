"""One training cycle that prunes when the sub-network is stable: OCSPruner.

Ghimire et al. 2026, "One-Cycle Structured Pruning via Stability-Driven Subnetwork Search" (WACV, arXiv 2501.13439).
Saliency, regularisation and stability score are those of the authors' repository. Their epochs of 300 are shares of the
training here, and their search for a threshold in FLOPs is `budget.select`, so that any cost can be the budget.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from greenprune.methods.base import Method, Phase, Skip, step_of
from greenprune.methods.cost.costs import MacCost
from greenprune.methods.options.base import MethodOptions
from greenprune.methods.options.one_cycle import OneCycleOptions
from greenprune.methods.structure.inputs import ExampleInputs
from greenprune.methods.structure.slot import Slot
from greenprune.methods.structure.trace import trace
from greenprune.methods.structure.units import BATCH_NORMS, Structure
from greenprune.methods.structure.weights import Scaler, Side, sides
from torch import Tensor, nn

APART = 2
"""Looks between two sub-networks that are compared."""

AVERAGED = 3
"""Similarities that the stability score is the mean of."""


class OneCycle(Method):
    """Trains, looks again and again for the sub-network that the budget would keep, and cuts when it stays the same.

    What lies outside the sub-network is shrunk meanwhile, ever faster. The rest of the same learning-rate cycle trains
    what is left. Everything that is decided follows from the weights and the count of steps, so processes that hold the
    same weights decide alike.

    Attributes:
        cut_step: after which step the network was cut; None before.
    """

    name = "one_cycle"
    source = "Ghimire et al. 2026 (OCSPruner), arXiv 2501.13439"
    Options = OneCycleOptions
    tuning: ClassVar = {
        "begin_share": (0.05, 0.1, 0.2),
        "latest_cut": (0.25, 0.37, 0.5),
        "shrinkage": (1.0, 3.0, 7.0, 14.0),
        "look_share": (0.005, 0.01, 0.03),
    }
    made_by_prepare: ClassVar = frozenset({"_saliency"})  # it looks weights up in the network

    @classmethod
    def phases(cls, options: MethodOptions) -> tuple[Phase, ...]:
        assert isinstance(options, OneCycleOptions)
        if options.begin_share >= options.latest_cut:
            raise ValueError(
                f"begin_share = {options.begin_share:g}: allowed is less than latest_cut = {options.latest_cut:g}"
            )
        return (Phase("train", 1.0, peak=1.0),)  # when it is cut depends on what is trained

    def prepare(self, model: nn.Module, example_inputs: ExampleInputs) -> nn.Module:
        self._structure = trace(model, example_inputs)
        if not self._structure.groups:
            raise Skip("no channels of this network can be removed")
        self._saliency = Saliency(model, self._structure)
        self._removable = self._saliency(model).isfinite()
        self.check_reachable(model, self._structure, self._removable)
        self._network = Slot(model, self._structure)
        self._example_inputs = example_inputs
        self._begin = step_of(self.options.begin_share, self.steps)
        self._latest = min(self.steps, max(1, self._begin + 1, step_of(self.options.latest_cut, self.steps)))
        self._interval = max(1, step_of(self.options.look_share, self.steps))
        self._kept: list[Tensor] = []  # the last sub-networks, (U,) bool each
        self._similarities: list[float] = []
        self._scores: list[tuple[int, float]] = []  # step and stability score of every look
        self.cut_step: int | None = None
        return self._network

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().after_step(optimizer)
        if self.cut_step is not None:
            return
        if self._kept and self.step > self._begin:
            self._shrink()
        if self.step % self._interval == 0 or self.step == self._latest:
            score = self._look()
            stable = self.step > self._begin and score >= self.options.stability
            if stable or self.step == self._latest:
                self.cut_step = self.step
                self.masked_max_abs_diff = self._network.cut(self._kept[-1], self._example_inputs, optimizer)

    def _shrink(self) -> None:
        span = self._latest - self._begin
        # 1 + 2 + … + span steps: all together they make `shrinkage`.
        rate = self.options.shrinkage * (self.step - self._begin) / (span * (span + 1) / 2)
        self._saliency.shrink(self._network.model, ~self._kept[-1], math.exp(-rate))

    def _look(self) -> float:
        """Find the sub-network of now; the stability score."""
        model = self._network.model
        scores = spared(self._structure, self._saliency(model), self.options.group_limit)
        self._kept = [*self._kept[-APART:], self.select(model, self._structure, scores, self._removable)]
        compared = len(self._kept) > APART
        self._similarities.append(similarity(self._structure, self._kept[0], self._kept[-1]) if compared else 0.0)
        self._similarities = self._similarities[-AVERAGED:]
        score = sum(self._similarities) / AVERAGED
        self._scores.append((self.step, round(score, 6)))
        return score

    def finish(self) -> nn.Module:
        return self._network.model

    def history(self) -> dict[str, Any]:
        """The step of the cut, and of every look at the sub-network the step and the stability score."""
        return {"cut_step": self.cut_step, "stability": [list(entry) for entry in self._scores]}


def similarity(structure: Structure, one: Tensor, other: Tensor) -> float:
    """How alike two sub-networks are: of each group the channels that both keep among those that either keeps (Jaccard),
    their mean over the groups.

    Args:
        one, other: (U,) bool, the units that stay.
    """
    shares = [
        float((one[g.units] & other[g.units]).sum()) / max(1, int((one[g.units] | other[g.units]).sum()))
        for g in structure.groups
    ]
    return sum(shares) / len(shares)


def spared(structure: Structure, scores: Tensor, limit: float) -> Tensor:
    """`scores` (U,) with the best of each group above all others, so that no more than the share `limit` of it goes first.

    Those spared go when nothing else is left: the budget comes first.
    """
    result = scores.clone()
    finite = scores[scores.isfinite()]
    offset = float(finite.max() - finite.min()) + 1.0 if len(finite) else 0.0
    for group in structure.groups:
        spare = group.width - int(limit * group.width)
        result[group.start + scores[group.units].topk(spare).indices] += offset
    return result


class Saliency:
    """What a unit is worth by its weights, and the pull on those that are worth too little.

    A unit's saliency: for each weight that has entries of it (as a filter, as an input of the next layer, as a scale of a
    batch norm) the sum of their squares, divided by the root of their number; the mean of these; times 1 - the softmax over
    the groups of what a channel costs in millions of multiply-accumulates. A unit of several channels (a head of attention),
    which the authors do not have, is worth its saliency divided by the root of their number.

    Args:
        model: the dense network.
        structure: of `model`.
    """

    def __init__(self, model: nn.Module, structure: Structure) -> None:
        modules = dict(model.named_modules())
        self._units = structure.units
        self._sides = [s for s in sides(model, structure) if _takes_part(s, modules)]
        self._scale = Scaler(self._sides)
        self._roots = [_roots(side, modules, self._units) for side in self._sides]
        self._members = torch.stack([(root > 0).float() for root in self._roots]).sum(0)[: self._units]
        channels = torch.ones(self._units)
        for side in self._sides:
            if side.writes:
                channels = torch.maximum(channels, torch.bincount(side.units, minlength=self._units + 1)[:-1].float())
        self._weights = 1.0 / channels.sqrt()
        for group, share in zip(structure.groups, torch.softmax(channel_costs(structure), 0).tolist(), strict=True):
            self._weights[group.units] *= 1.0 - share
        self._members[~structure.channel_units] = 0.0  # branches stay

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> Tensor:
        """(U,) of every channel; infinite for branches and for channels without weights of their own (they stay)."""
        modules = dict(model.named_modules())
        total = torch.zeros(self._units + 1)
        for side, root in zip(self._sides, self._roots, strict=True):
            squares = torch.zeros(self._units + 1).index_add_(0, side.units, side.norms(modules, 2).square())
            total += squares / root.clamp_min(1e-12)
        own = total[: self._units] / self._members.clamp_min(1.0) * self._weights
        return torch.where(self._members > 0, own, float("inf"))

    def shrink(self, model: nn.Module, units: Tensor, factor: float) -> None:
        """Multiply by `factor` what belongs to `units` (U,) bool: as filters, as inputs and as scales of batch norms."""
        factors = torch.ones(self._units + 1)
        factors[:-1][units] = factor
        self._scale(model, factors)


def _takes_part(side: Side, modules: dict[str, nn.Module]) -> bool:
    """Weights of layers, and scales of batch norms; those of other norms and activations do not."""
    return side.weight(modules).ndim > 1 or isinstance(modules[side.layer], BATCH_NORMS)


def _roots(side: Side, modules: dict[str, nn.Module], units: int) -> Tensor:
    """(units + 1,) the root of how many entries of the weight each unit has; 0 where it has none."""
    weight = side.weight(modules)
    each = weight.numel() / weight.shape[side.dim]
    return (torch.bincount(side.units, minlength=units + 1) * each).sqrt()


def channel_costs(structure: Structure) -> Tensor:
    """(groups,) what a channel of each group costs, in millions of multiply-accumulates: the mean over all but the last."""
    cost, found = MacCost(structure), []
    for group in structure.groups:
        openness = torch.ones(structure.units)
        openness[group.start + 1 : group.start + group.width] = 0.0
        saved = (1.0 - float(cost(openness))) * structure.macs / 1e6
        found.append(saved / max(1, group.width - 1))
    return torch.tensor(found, dtype=torch.float64)
