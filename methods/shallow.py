"""The control that closing layers has to beat: the same network with fewer blocks, trained from scratch.

The counterpart in depth of `uniform` ("scratch" in Liu et al. 2019, arXiv 1810.05270): ResNet-14 and ResNet-8 are what it makes
of ResNet-20. With `start = "kept"` the blocks that stay begin with given weights, as in Fan et al. 2020, "Reducing
Transformer Depth on Demand" (arXiv 1909.11556), which leaves out every other block.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from greenprune.methods.base import Method, Skip
from greenprune.methods.budget import select as budget
from greenprune.methods.budget.choice import Choice
from greenprune.methods.budget.limits import lowest
from greenprune.methods.budget.reach import Nearest, check_floor, warn
from greenprune.methods.cost.costs import Cost, MacCost
from greenprune.methods.cost.kinds import COST_NAMES
from greenprune.methods.options.base import MethodOptions
from greenprune.methods.options.shallow import ShallowOptions
from greenprune.methods.structure import surgery
from greenprune.methods.structure.blocks import Block, find_blocks, order_of_removal
from greenprune.methods.structure.inputs import ExampleInputs
from greenprune.methods.structure.trace import trace
from greenprune.methods.structure.units import Structure
from greenprune.methods.uniform import sliced_scores, uniform_scores
from torch import Tensor, nn


class Shallow(Method):
    """Removes whole residual blocks before the training starts, in the order of `blocks.order_of_removal`, then trains.

    As many blocks go as the budget asks for. Where it lies between two numbers of blocks, the last one that would go stays
    and is narrowed; where that does not lead into the tolerance, or all have gone that can, everything is narrowed evenly.
    With a budget of time or energy, of which narrower layers save little, whichever of these keeps most MACs is taken, as long
    as it ends within the coarser tolerance of such budgets (`limits.lowest`).
    """

    name = "shallow"
    source = "the depth counterpart of Liu et al. 2019, arXiv 1810.05270"
    Options = ShallowOptions

    @classmethod
    def starts_anew(cls, options: MethodOptions) -> bool:
        assert isinstance(options, ShallowOptions)
        return options.start == "scratch"

    def prepare(self, model: nn.Module, example_inputs: ExampleInputs) -> nn.Module:
        structure = trace(model, example_inputs)
        order = order_of_removal(find_blocks(structure))
        if not order:
            raise Skip(
                "no block of this network can be removed: it has no residual blocks besides the first and those that "
                "change the size or the channels"
            )
        cost = budget.make_cost(self.cost, structure, model, self.table)
        scores = uniform_scores(structure) if self.options.start == "scratch" else sliced_scores(model, structure)
        keep = self._nearest(structure, order, scores, cost)
        self.predicted_cost = float(cost(keep.float()))
        self._model, self.masked_max_abs_diff = surgery.remove_checked(model, structure, keep, example_inputs)
        return self._model

    def finish(self) -> nn.Module:
        return self._model

    def _nearest(self, structure: Structure, order: tuple[Block, ...], scores: Tensor, cost: Cost) -> Tensor:
        """(U,) bool: the first choice within the tolerance, of a coarse cost that of most MACs, else the dearest below the
        budget, which is said."""
        removable = structure.channel_units
        removable[[unit for block in order for unit in block.units]] = True
        check_floor(structure, self.keep, removable, cost, self.round_to)
        coarse = self._coarse(cost)
        least, macs = lowest(self.keep, self.tolerance, coarse=coarse), MacCost(structure)
        best, below, above = None, 0.0, 1.0
        within = []
        for chosen, reached in self._choices(structure, order, scores, cost):
            if least <= reached <= self.keep:
                if not coarse:
                    return chosen
                within.append(chosen)
            if below < reached <= self.keep:
                best, below = chosen, reached
            above = min(above, reached) if reached > self.keep else above
        if within:
            return max(within, key=lambda chosen: float(macs(chosen.float())))
        if best is None:
            raise budget.BudgetError(
                f"a budget of {self.keep:g} cannot be met: the nearest selection costs {above:.6g} of the dense "
                f"{COST_NAMES[cost.kind]}"
            )
        self.nearest = Nearest(below, above)
        warn(self.nearest, self.keep, self.tolerance, cost)
        return best

    def _choices(
        self, structure: Structure, order: tuple[Block, ...], scores: Tensor, cost: Cost
    ) -> Iterator[tuple[Tensor, float]]:
        """Networks around the budget, (U,) bool each, and what they cost, as a fraction of dense."""
        choice = Choice(structure, cost)
        steps = [torch.from_numpy(choice.open.copy())]
        yield steps[0], choice.cost()
        for block in order:
            if choice.cost() <= self.keep:
                break
            for unit in block.units:
                choice.close(unit)
            steps.append(torch.from_numpy(choice.open.copy()))
            yield steps[-1], choice.cost()
        if choice.cost() <= self.keep and len(steps) > 1:
            last = order[len(steps) - 2]
            inside = torch.zeros_like(steps[0])
            inside[[unit for branch in last.units for unit in structure.channels_inside(branch)]] = True
            yield self._narrowed(structure, steps[-2], inside, scores, cost)
            steps.pop()
        yield self._narrowed(structure, steps[-1], structure.channel_units, scores, cost)

    def _coarse(self, cost: Cost) -> bool:
        return self.round_to > 1 or cost.staircase

    def _narrowed(
        self, structure: Structure, opened: Tensor, removable: Tensor, scores: Tensor, cost: Cost
    ) -> tuple[Tensor, float]:
        """`opened` (U,) without as many of the `removable` units as the budget asks for, those of the lowest scores."""
        # What is closed already goes first. Bundles add scores up, and know no infinity.
        scores = scores.masked_fill(~opened, -1.0 if self._coarse(cost) else -torch.inf)
        found = budget.nearest(structure, scores, self.keep, self.tolerance, removable | ~opened, cost, self.round_to)
        return found[0], found[1]
