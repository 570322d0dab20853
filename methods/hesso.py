"""Training that drives redundant units to zero step by step, and then removes them: the optimizer HESSO.

Chen et al. 2024, "HESSO: Towards Automatic Efficient and User Friendly Any Neural Network Training and Pruning" (arXiv
2409.09085), the optimizer of Only-Train-Once (Chen et al. 2023, OTOv2). Scores and steps are those of the authors'
repository, without the corrective cycle (CRIC), which it does not hold. Their target counts groups of parameters; here each
period takes an equal share of the budget's cost, so that any cost can be the budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from greenprune.methods.base import Method, Phase, Skip, step_of
from greenprune.methods.budget import select as budget
from greenprune.methods.options.base import MethodOptions
from greenprune.methods.options.hesso import HessoOptions
from greenprune.methods.structure.inputs import ExampleInputs
from greenprune.methods.structure.slot import Slot
from greenprune.methods.structure.trace import trace
from greenprune.methods.structure.weights import Scaler, Side, written
from torch import Tensor, nn


class Hesso(Method):
    """Trains; over a number of periods chooses the units of lowest score and scales what writes them linearly down to zero;
    removes them when all are zero, which changes nothing in what the network computes; trains on in the same cycle.

    The optimizer's own step comes first, of whatever kind it is, the scaling behind it. Scores follow from the weights and
    from the direction of the optimizer's step, so processes that share their gradients decide alike.
    """

    name = "hesso"
    source = "Chen et al. 2024 (HESSO), arXiv 2409.09085"
    Options = HessoOptions
    tuning: ClassVar = {
        "begin_share": (0.05, 0.1, 0.2, 0.3),
        "prune_share": (0.05, 0.1, 0.15, 0.3),
        "periods": (1, 5, 10),
    }

    made_by_prepare: ClassVar = frozenset({"_scale"})

    @classmethod
    def phases(cls, options: MethodOptions) -> tuple[Phase, ...]:
        assert isinstance(options, HessoOptions)
        rest = 1.0 - options.begin_share - options.prune_share
        if rest <= 0:
            raise ValueError(
                f"begin_share + prune_share = {options.begin_share + options.prune_share:g} leave nothing for training "
                "what is left; allowed is a sum below 1"
            )
        return (
            Phase("train", options.begin_share, peak=1.0),
            Phase("prune", options.prune_share),
            Phase("train on", rest),
        )

    def prepare(self, model: nn.Module, example_inputs: ExampleInputs) -> nn.Module:
        self._structure = trace(model, example_inputs)
        if not self._structure.groups:
            raise Skip("no channels of this network can be removed")
        self._sides = written(model, self._structure)
        self._scale = Scaler(self._sides)
        self._removable = self._structure.channel_units & counts(self._sides, model, self._structure.units).bool()
        self.check_reachable(model, self._structure, self._removable)
        self._network = Slot(model, self._structure)
        self._example_inputs = example_inputs
        begin, end = stretch(self.options, self.steps)
        self._ends = period_ends(begin, end, self.options.periods)  # the first is where the first period begins
        self._redundant = torch.zeros(self._structure.units, dtype=torch.bool)
        self._fading = torch.zeros_like(self._redundant)  # those of them that this period drives to zero
        self._gradients: dict[str, Tensor] = {}
        self._chosen: list[tuple[int, int]] = []
        return self._network

    def after_backward(self) -> None:
        if self.step + 1 in self._ends[:-1]:
            modules = dict(self._network.model.named_modules())
            found = {key_of(side): side.weight(modules).grad for side in self._sides}
            self._gradients = {key: grad.clone() for key, grad in found.items() if grad is not None}

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().after_step(optimizer)
        if self._ends[0] < self.step <= self._ends[-1]:
            self._scale_down()
        if self.step in self._ends[:-1]:
            self._choose(optimizer)
        elif self.step == self._ends[-1]:
            self.masked_max_abs_diff = self._network.cut(~self._redundant, self._example_inputs, optimizer)

    def _scale_down(self) -> None:
        """Linearly: after the last step of a period its units are exactly zero, and those of earlier ones stay so."""
        end = next(e for e in self._ends if self.step <= e)
        left = end - self.step
        factors = torch.ones(self._structure.units + 1)
        factors[:-1][self._redundant] = 0.0
        factors[:-1][self._fading] = left / (left + 1.0)
        self._scale(self._network.model, factors)

    def _choose(self, optimizer: torch.optim.Optimizer) -> None:
        """What the next period drives to zero, besides what is zero: the budget falls by an equal share each time."""
        model, number = self._network.model, self._ends.index(self.step) + 1
        periods = len(self._ends) - 1
        aim = self.keep if number == periods else 1.0 - (1.0 - self.keep) * number / periods
        along = directions(model, self._sides, optimizer, self._gradients)
        sums = Sums.of(model, self._sides, along, self._structure.units)
        self._gradients = {}
        cost = budget.make_cost(self.cost, self._structure, model, self.table)
        bundles = cost.staircase or self.round_to > 1
        # What is zero goes first: it has no score to lose (in bundles scores add up), and none is lower.
        found = scores(sums, self._removable).masked_fill(self._redundant, 0.0 if bundles else -torch.inf)
        keep = budget.select(self._structure, found, aim, self.tolerance, self._removable, cost, self.round_to)
        self._fading = ~keep & ~self._redundant
        self._redundant = self._redundant | ~keep
        self.predicted_cost = float(cost((~self._redundant).float()))
        self._chosen.append((self.step, int(self._fading.sum())))

    def finish(self) -> nn.Module:
        return self._network.model

    def history(self) -> dict[str, Any]:
        """Of each period the step in which its units were chosen, and how many these were."""
        return {"chosen": [list(entry) for entry in self._chosen]}


def stretch(options: HessoOptions, steps: int) -> tuple[int, int]:
    """The steps of a training behind which the pruning begins and ends: at least a step before it, at least one in it.

    Raises:
        ValueError: there are fewer than 2 steps.
    """
    if steps < 2:
        raise ValueError(f"steps = {steps}: allowed is at least 2, one to choose units and one to drive them to zero")
    begin = max(1, step_of(options.begin_share, steps))
    end = min(steps, max(begin + 1, step_of(options.begin_share + options.prune_share, steps)))
    return min(begin, end - 1), end


def period_ends(begin: int, end: int, periods: int) -> tuple[int, ...]:
    """Steps `begin` to `end` in about equal periods of at least a step each: where they begin and end, ascending."""
    periods = min(periods, end - begin)
    return tuple(begin + round((end - begin) * i / periods) for i in range(periods + 1))


@dataclass(frozen=True)
class Sums:
    """Sums over the entries of all parameters that write a unit, (U,) each: how many they are, of the squares of the
    values, of those of the direction, and of their products."""

    count: Tensor
    values: Tensor
    directions: Tensor
    products: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: nn.Module, sides: list[Side], along: dict[str, Tensor], units: int) -> Sums:
        """
        Args:
            along: the direction of each parameter by `key_of`; those without one count as values alone.
            units: U.
        """
        modules = dict(model.named_modules())
        found = torch.zeros(3, units + 1, dtype=torch.float64)  # the last is of what cannot be removed
        for side in sides:
            value, direction = side.weight(modules).float(), along.get(key_of(side))
            found[0].index_add_(0, side.units, _over(value * value, side))
            if direction is not None:
                direction = direction.float()
                found[1].index_add_(0, side.units, _over(direction * direction, side))
                found[2].index_add_(0, side.units, _over(value * direction, side))
        return cls(counts(sides, model, units), *found[:, :units])


def scores(sums: Sums, removable: Tensor) -> Tensor:
    """(U,) importance of each unit: of five criteria, each divided by its root of summed squares, the mean.

    The norm; the norm per entry; 1 + the cosine between values and direction; and what a Taylor series says that the loss
    changes when the values become 0, to the first order and, with the square of the gradient for the second derivative, to
    the second.

    Args:
        removable: (U,) bool; others are infinite.
    """
    small, norm, first = 1e-8, sums.values.sqrt(), sums.products.abs()
    criteria = (
        norm,
        norm / (sums.count + 1e-6),
        sums.products / (norm + small) / (sums.directions.sqrt() + small) + 1.0,
        first,
        0.5 * first.square(),
    )
    found = torch.full((len(removable),), float("inf"))
    ours = [c[removable] for c in criteria]
    found[removable] = torch.stack([c / ((c.square().sum() + small).sqrt() + small) for c in ours]).mean(0).float()
    return found


def directions(
    model: nn.Module, sides: list[Side], optimizer: torch.optim.Optimizer, gradients: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Which way the optimizer moves each parameter (against it): its momentum, the quotient of Adam's two means, or where
    it has neither the gradient."""
    modules, found = dict(model.named_modules()), {}
    decays = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for side in sides:
        parameter = side.weight(modules)
        state, key = optimizer.state.get(parameter, {}), key_of(side)
        momentum, first, second = (state.get(k) for k in ("momentum_buffer", "exp_avg", "exp_avg_sq"))
        group = decays.get(id(parameter), {})
        if _like(momentum, parameter):
            found[key] = momentum
        elif _like(first, parameter) and _like(second, parameter) and "betas" in group:
            step, (one, two) = float(state["step"]), group["betas"]
            found[key] = first / (1.0 - one**step) / ((second / (1.0 - two**step)).sqrt() + group["eps"])
        elif key in gradients:
            found[key] = gradients[key]
    return found


def counts(sides: list[Side], model: nn.Module, units: int) -> Tensor:
    """(units,) how many entries of all parameters write each unit."""
    modules = dict(model.named_modules())
    found = torch.zeros(units + 1)
    for side in sides:
        parameter = side.weight(modules)
        found += torch.bincount(side.units, minlength=units + 1)[: units + 1] * (
            parameter.numel() / parameter.shape[side.dim]
        )
    return found[:units]


def _over(values: Tensor, side: Side) -> Tensor:
    """(entries,) on the CPU: `values` summed over all dimensions but the side's own."""
    moved = values.detach().movedim(side.dim, 0)
    return moved.reshape(len(moved), -1).double().sum(1).cpu()


def _like(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


def key_of(side: Side) -> str:
    """The name of its parameter."""
    return f"{side.layer}.{side.parameter}"
